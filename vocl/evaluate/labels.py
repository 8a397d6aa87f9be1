"""What label propagation carries on: object masks, named points, or classes of parts.

Each kind says what is given in frame 0 and how the result is scored. Letters as in
`vocl.ops.propagation`. `score` returns a video's row, and what the scores over a split are made of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from annotated_types import Ge, Gt
from einops import rearrange
from torch import Tensor

from vocl.data.truth import Keypoints, Truth
from vocl.errors import UserError
from vocl.interface import VOID, Grid, Measure
from vocl.metrics.confusion import class_iou, confusion
from vocl.metrics.davis import Scores, num_objects, object_scores, one_hot, summary
from vocl.metrics.points import correct_keypoints, pck
from vocl.ops.propagation import Rule, label_map, to_grid


@dataclass(frozen=True)
class Frame:
    """How a video's soft labels c n become a label map: the rule, and the sizes on the way."""

    rule: Rule
    grid: Grid
    size: tuple[int, int]  # of the model's input
    true_size: tuple[int, int]

    def reduced(self, channels: Tensor) -> Tensor:
        """Soft labels c n from channels c h w."""
        return to_grid(channels, self.grid, self.rule.reduce)

    def label_maps(self, soft: Tensor, given: Tensor) -> Tensor:
        """Label maps t h w from soft labels t c n and the given map h w of frame 0."""
        size = self.true_size if self.rule.enlarge == "truth" else self.size
        maps = torch.stack([label_map(s, self.grid, size, self.true_size, self.rule.stretch) for s in soft])
        if self.rule.given_first:
            maps[0] = given
        return maps


class Labels:
    """A kind of label; `truth`: the class of a video's truth."""

    truth: ClassVar[type]
    measures: ClassVar[Mapping[str, Measure]] = {}

    def given(self, truth: Any, frame: Frame) -> Tensor:
        """Soft labels c n of frame 0."""
        raise NotImplementedError

    def score(self, truth: Any, soft: Tensor, frame: Frame) -> tuple[dict[str, Any], Any]:
        """A video's row, and its part of `metrics`; `soft` t c n."""
        raise NotImplementedError

    def metrics(self, parts: Sequence[Any]) -> dict[str, float]:
        """Scores over a split from the parts of its videos."""
        raise NotImplementedError


class MaskLabels(Labels):
    """Object masks, scored by the rules of DAVIS's semi-supervised task.

    The objects are those up to the largest label of frame 0; the first and the last frame are left
    out, and a video of fewer than three counts nothing; void pixels are background, as officially.
    Where objects overlap the later one is on top.
    """

    truth: ClassVar[type] = Truth
    measures: ClassVar[Mapping[str, Measure]] = {
        "propagation_j_decay": Measure(higher_is_better=False),
        "propagation_f_decay": Measure(higher_is_better=False),
    }

    def given(self, truth: Truth, frame: Frame) -> Tensor:
        first = torch.from_numpy(_map(truth)[0])
        return frame.reduced(_channels(first, int(first.max()) + 1))

    def score(self, truth: Truth, soft: Tensor, frame: Frame) -> tuple[dict[str, Any], Scores]:
        true = _map(truth)
        count, scored = num_objects(true, VOID), range(1, truth.length - 1)
        if not (count and scored):
            nothing = dict.fromkeys(("propagation_jf", "propagation_j_mean", "propagation_f_mean"), np.nan)
            return nothing | {"num_objects": 0, "num_frames": 0}, Scores(*np.zeros((2, 0, 1)))
        found = frame.label_maps(soft, torch.from_numpy(true[0]).to(soft.device)).cpu().numpy()
        objects = object_scores((one_hot(found[t], count), one_hot(true[t], count)) for t in scored)
        j, f = (float(values.mean()) for values in objects)
        row = {"propagation_jf": (j + f) / 2, "propagation_j_mean": j, "propagation_f_mean": f}
        return row | {"num_objects": count, "num_frames": len(scored)}, objects

    def metrics(self, parts: Sequence[Scores]) -> dict[str, float]:
        return {f"propagation_{name}": value for name, value in summary(parts).items()}


class KeypointLabels(Labels):
    """Named points: a Gaussian each on the grid, its `topk` best cells' weighted mean when it is read back.

    `sigma` in cells; the Gaussian is 1 at the cell nearest to the point, and cut off beyond 3 sigma.
    A cell where every point is 0 is background. A point without any mass is not visible. Scored by
    PCK at `thresholds` (see `vocl.metrics.points`).
    """

    truth: ClassVar[type] = Keypoints

    def __init__(
        self, *, sigma: Annotated[float, Gt(0)], topk: Annotated[int, Ge(1)], thresholds: list[float]
    ) -> None:
        self.sigma, self.topk, self.thresholds = sigma, topk, thresholds

    def given(self, truth: Keypoints, frame: Frame) -> Tensor:
        points = torch.from_numpy(truth.points[0]).float()
        cells = torch.stack(torch.meshgrid(*(torch.arange(s) for s in frame.grid), indexing="ij"))
        centre = (points[:, [1, 0]] / _cell(frame)).round()
        apart = (rearrange(cells, "two r s -> (r s) two") - centre.unsqueeze(1)).square()
        mass = (apart.sum(-1) / (-2 * self.sigma**2)).exp()
        mass[(apart > (3 * self.sigma) ** 2).any(-1)] = 0
        mass[points[:, 2] == 0] = 0
        return torch.cat([(mass.sum(0, keepdim=True) == 0).float(), mass])

    def read(self, soft: Tensor, frame: Frame) -> np.ndarray:
        """Points t p 3 (x, y in pixels; visible) of soft labels t c n."""
        best = soft[:, 1:].topk(min(self.topk, soft.shape[2]), dim=2)
        weights = best.values / best.values.sum(-1, keepdim=True).clamp(min=torch.finfo(soft.dtype).tiny)
        y, x = best.indices // frame.grid.columns, best.indices % frame.grid.columns
        height, width = _cell(frame)
        found = torch.stack([(x * weights).sum(-1) * width, (y * weights).sum(-1) * height], dim=-1)
        visible = (soft[:, 1:].sum(-1, keepdim=True) > 0).to(found)
        return torch.cat([found, visible], dim=-1).cpu().numpy()

    def score(
        self, truth: Keypoints, soft: Tensor, frame: Frame
    ) -> tuple[dict[str, Any], tuple[np.ndarray, np.ndarray]]:
        parts = correct_keypoints(self.read(soft, frame), truth.points, self.thresholds)
        return self.metrics([parts]) | {"num_points": int(parts[1].sum()), "num_frames": truth.length}, parts

    def metrics(self, parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
        right, counts = (sum(part[1:], start=part[0]) for part in zip(*parts, strict=True))
        names = (f"propagation_pck_{threshold:g}" for threshold in self.thresholds)
        return dict(zip(names, map(float, pck(right, counts)), strict=True))


class PartLabels(Labels):
    """Classes 0 .. `num_classes` - 1 that mean the same in every video, background (0) among them.

    One confusion matrix over all frames of all videos; the score is the mean IoU over the classes
    that occur (VIP, as CRW counts it). A class that frame 0 lacks cannot be found later.
    """

    truth: ClassVar[type] = Truth

    def __init__(self, *, num_classes: Annotated[int, Ge(2)]) -> None:
        self.num_classes = num_classes

    def given(self, truth: Truth, frame: Frame) -> Tensor:
        if len(truth.objects) >= self.num_classes:
            raise UserError(
                f"eval labels.num_classes={self.num_classes}: the truth has class {len(truth.objects)}"
            )
        return frame.reduced(_channels(torch.from_numpy(_map(truth)[0]), self.num_classes))

    def score(self, truth: Truth, soft: Tensor, frame: Frame) -> tuple[dict[str, Any], Tensor]:
        true = torch.from_numpy(truth.labels("paint")[0])
        found = frame.label_maps(soft, true[0].where(true[0] != VOID, 0).to(soft.device)).cpu()
        table = confusion(true, found, self.num_classes)
        return self.metrics([table]) | {"num_frames": truth.length}, table

    def metrics(self, parts: Sequence[Tensor]) -> dict[str, float]:
        return {"propagation_miou": float(np.nanmean(class_iou(sum(parts[1:], start=parts[0]))))}


def _map(truth: Truth) -> np.ndarray:
    """The label map t h w, void as background."""
    labels = truth.labels("paint")[0]
    labels[labels == VOID] = 0
    return labels


def _channels(labels: Tensor, count: int) -> Tensor:
    return (labels == rearrange(torch.arange(count), "c -> c 1 1")).float()


def _cell(frame: Frame) -> Tensor:
    """Height and width in pixels of the truth of a cell of the grid."""
    return torch.tensor([side / cells for side, cells in zip(frame.true_size, frame.grid, strict=True)])
