"""A backbone and nothing else: what its features are worth without any training."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from vocl.interface import Backbone, Clip, VideoModel


class BackboneOnly(VideoModel):
    """Dense features of the backbone, for evaluations that ask for `embed` (label propagation, probes).

    It has no output, so no loss fits it: `loss=[]` makes a run that trains nothing and is evaluated.
    """

    provides: ClassVar[frozenset[str]] = frozenset()
    answers: ClassVar[frozenset[str]] = frozenset({"embed"})
    any_size: ClassVar[frozenset[str]] = frozenset({"embed"})
    reads_features: ClassVar[bool] = True
    reads_video = False

    def __init__(self, backbone: Backbone, frame_px: tuple[int, int]) -> None:
        super().__init__()
        self.backbone = backbone

    def embed(self, clip: Clip) -> Tensor:
        return self.encode(clip).tokens
