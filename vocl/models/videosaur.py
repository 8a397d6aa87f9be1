"""Recurrent slots whose decoder says which patches move where: VideoSAUR."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from vocl.config.build import Part
from vocl.interface import Backbone, Clip, Output
from vocl.models.recurrent import Recurrent
from vocl.ops.narrow import given


@dataclass
class SimilarityOutput(Output):
    """An output with `similarity` b t n n: for each patch of frame t, logits over those of t + 1.

    The last frame's have nothing to be compared with.
    """

    similarity: Tensor | None = None


class VideoSAUR(Recurrent):
    """`Recurrent` with a similarity head (Zadaianchuk et al., "Object-Centric Learning for Real-World
    Videos by Predicting Temporal Feature Similarities", NeurIPS 2023).

    The decoder's channels are those of the backbone's features, if `target: features`, and then one
    per patch: the logits that `vocl.losses.similarity.TemporalSimilarity` trains. With `target:
    null` it predicts these alone, as the paper does on MOVi.
    """

    provides: ClassVar[frozenset[str]] = Recurrent.provides | frozenset({"keys", "similarity"})
    optional: ClassVar[dict[str, str]] = {"recon": "target", "target": "target"}

    def __init__(
        self,
        backbone: Backbone,
        frame_px: tuple[int, int],
        *,
        target: Literal["features"] | None,
        decoder: Part[nn.Module],
        **rest: Any,
    ) -> None:
        split = (backbone.dim if target else 0, math.prod(backbone.grid(frame_px)))
        super().__init__(
            backbone,
            frame_px,
            target="features",
            decoder=lambda slot_dim, _, grid: decoder(slot_dim, sum(split), grid),
            **rest,
        )
        self.split = split  # channels of the features, channels of the similarity

    def forward(self, clip: Clip) -> SimilarityOutput:
        output = super().forward(clip)
        recon, similarity = given(output.recon).split(self.split, dim=-1)
        kept = {"recon": recon} if self.split[0] else {"recon": None, "target": None}
        return SimilarityOutput(**(vars(output) | kept), similarity=similarity)
