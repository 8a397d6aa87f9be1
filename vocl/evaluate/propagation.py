"""Label propagation: how far a model's dense features carry the labels of a video's first frame."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from vocl.config.build import Part
from vocl.data.transforms import to_input
from vocl.errors import UserError
from vocl.evaluate.labels import Frame, Labels
from vocl.evaluate.videos import Scored, VideoEvaluation
from vocl.interface import Clip, Grid, Report, Subject, Video
from vocl.ops.narrow import pair
from vocl.ops.patches import grid_of
from vocl.ops.propagation import Propagation, Rule
from vocl.ops.random import seed_of

EMBED = "embed"  # what it asks the model for


class LabelPropagation(VideoEvaluation):
    """Carry the labels of frame 0 over each video by `rule`, and score them as `labels` says.

    Any model that has `embed` will do. Frames are whole ones: dataset.fit=crop has no effect here.
    They are resized as everywhere (`vocl.data.transforms.to_input`), where the scripts of the papers
    resize bilinearly. `window` frames are embedded at a time; features are kept of the frames that
    the rule looks at, so memory grows with the length of a video by its soft labels alone.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"embed", "truth"})

    def __init__(self, *, rule: Part[Rule], labels: Part[Labels], **rest: Any) -> None:
        super().__init__(**rest)
        self.rule = rule()
        self.labels = labels()

    @torch.no_grad()
    def run(self, subject: Subject) -> Report:
        def score(video: Video, truth: Any) -> Scored:
            return self._score(subject, video, truth)

        found = self.score_videos(subject, score, self.labels.truth)
        return found.report(self.rule.name, self.labels.metrics(found.makings), self.labels.measures)

    def _score(self, subject: Subject, video: Video, truth: Any) -> Scored:
        whole, size = self._sizes(subject, video)
        soft, propagation = [], None
        for features in self._features(subject, video, whole, size):
            if propagation is None:
                grid = Grid(*features.shape[-2:])
                frame = Frame(self.rule, grid, size, video.size)
                propagation = Propagation(self.rule, grid, features.device)
                soft.append(self.labels.given(truth, frame).to(features.device))
                propagation.begin(_cells(features), soft[0])
            else:
                soft.append(propagation.next(_cells(features)))
        return self.labels.score(truth, torch.stack(soft), frame)

    def _sizes(self, subject: Subject, video: Video) -> tuple[tuple[int, int], tuple[int, int]]:
        """`Rule.sizes` of a video, unless the model takes no frames of another size than its training's."""
        trained, model = pair(subject.dataset.size_px), subject.model
        whole, size = self.rule.sizes(video.size, trained)
        if size != trained and not (EMBED in model.any_size and model.backbone.any_size):
            raise UserError(
                f"rule.short_px={self.rule.short_px}: frames of {size[0]} x {size[1]} px, and this model "
                f"takes those of its training, {trained[0]} x {trained[1]}; choose rule.short_px=dataset"
            )
        return whole, size

    def _features(
        self, subject: Subject, video: Video, whole: tuple[int, int], size: tuple[int, int]
    ) -> Iterator[Tensor]:
        """Features e r s of each frame on the grid of the labels."""
        for start in range(0, video.length, self.window):
            clip = _clip(subject, video, range(start, min(start + self.window, video.length)), size)
            tokens = subject.model.embed(clip)
            grid = grid_of(tokens.shape[2], size)
            maps = rearrange(tokens, "1 t (r s) e -> t e r s", r=grid.rows).float()
            if self.rule.stride_px is not None:
                cells = [side // self.rule.stride_px for side in whole]
                maps = F.interpolate(maps, size=cells, mode="bilinear", align_corners=False)
            yield from maps


def _clip(subject: Subject, video: Video, frames: range, size: tuple[int, int]) -> Clip:
    """`frames` of a video, stretched to `size`, as a clip of batch 1."""
    pixels = torch.from_numpy(np.ascontiguousarray(video.frames(frames))).to(subject.device)
    fitted = to_input(pixels, size, "stretch", subject.dataset.normalise).unsqueeze(0)
    return Clip(
        video=fitted,
        valid=torch.ones(fitted.shape[:2], dtype=torch.bool),
        key=torch.tensor([seed_of("propagation", video.name)]),
        names=(video.name,),
        frames=torch.tensor([list(frames)]),
    ).to(subject.device)


def _cells(features: Tensor) -> Tensor:
    return rearrange(features, "e r s -> (r s) e")
