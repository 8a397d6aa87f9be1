"""Overlap of slots with true objects: best overlap (mBO), one-to-one overlap (Hungarian)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vocl.metrics.ari import AdjustedRandIndex
from vocl.metrics.contingency import TableMetric
from vocl.ops.matching import assign


def iou_matrix(table: Tensor) -> Tensor:
    """Intersection over union of every true label and slot: counts (..., c, k) -> same, float64.

    A slot's area counts all its points that are not void, those on the background too, so give the
    table with its row 0. 0 where the union is empty.
    """
    table = table.to(torch.float64)
    union = table.sum(-1, keepdim=True) + table.sum(-2, keepdim=True) - table
    return table / union.clamp(min=1)


@dataclass(frozen=True)
class Pairs:
    """Which labels of a table are objects, and which of its slots may be theirs.

    `first_object` 1: row 0, the background, is no object; 0: it counts as one, which raises scores.
    `first_slot` 1: what is labelled 0 is nobody's; 0: it may be any object's, as where a model does not
    say which of its slots is the background.
    """

    first_object: int = 1
    first_slot: int = 0

    def iou(self, table: Tensor) -> Tensor:
        """IoU of each object and slot: counts (..., c, k) -> (..., objects, slots) float64."""
        return iou_matrix(table)[..., self.first_object :, self.first_slot :]

    def present(self, table: Tensor) -> Tensor:
        """Which objects have points: counts (..., c, k) -> (..., objects) bool."""
        return table[..., self.first_object :, :].sum(-1) > 0


OBJECTS = Pairs()


def best_overlap(table: Tensor, pairs: Pairs = OBJECTS) -> Tensor:
    """Mean over the objects present of the IoU with their best slot: counts (..., c, k) -> (...) float64.

    Slots are not used up: several objects may share one, and one that covers the background is allowed.
    nan where no object is present.
    """
    return _mean_present(pairs.iou(table).amax(-1), pairs.present(table))


def matched_overlap(table: Tensor, pairs: Pairs = OBJECTS) -> Tensor:
    """As `best_overlap`, but a slot serves one object at most: counts (..., c, k) -> (...) float64.

    An object left over scores 0.
    """
    if table.ndim > 2:
        return torch.stack([matched_overlap(one, pairs) for one in table])
    return _mean_present(assigned(pairs.iou(table)), pairs.present(table))


def assigned(gain: Tensor) -> Tensor:
    """What each object gets of `gain` o k in the assignment of the highest sum (Hungarian method): o
    float64, 0 for one left over."""
    rows, columns = assign(gain.cpu().numpy())
    matched = torch.zeros_like(gain[:, 0])
    matched[rows] = gain[rows, columns]
    return matched


def _mean_present(scores: Tensor, present: Tensor) -> Tensor:
    """Mean of `scores` (..., o) over the objects that are `present`."""
    return (scores * present).sum(-1) / present.sum(-1)


class MeanBestOverlap(TableMetric):
    """mBO: mean best overlap over frames or videos; samples without an object do not count."""

    def __init__(self, *, level: Literal["image", "video"], pairs: Pairs = OBJECTS) -> None:
        super().__init__(level=level)
        self.pairs = pairs

    def values(self, tables: Tensor) -> Tensor:
        return best_overlap(tables, self.pairs)


class MeanIoUVolume(TableMetric):
    """Mean over videos of the one-to-one overlap of space-time volumes.

    Not to be mixed up with the mean IoU that averages the IoU of the frames of a pair before it
    assigns (`vocl.metrics.frame_average`).
    """

    def __init__(self, *, pairs: Pairs = OBJECTS) -> None:
        super().__init__(level="video")
        self.pairs = pairs

    def values(self, tables: Tensor) -> Tensor:
        return matched_overlap(tables, self.pairs)


def scores(*, empty: Literal["one", "skip"], pairs: Pairs = OBJECTS) -> dict[str, TableMetric]:
    """The scores of object discovery by name; `empty` as in `AdjustedRandIndex`."""
    out: dict[str, TableMetric] = {}
    for level in ("image", "video"):
        out[f"{level}_ari"] = AdjustedRandIndex(level=level, foreground=False, empty=empty)
        out[f"{level}_fg_ari"] = AdjustedRandIndex(level=level, foreground=True, empty=empty)
        out[f"{level}_mbo"] = MeanBestOverlap(level=level, pairs=pairs)
    return out | {"video_miou_volume": MeanIoUVolume(pairs=pairs)}
