"""Overlap of slots with true objects: best overlap (mBO), one-to-one overlap (Hungarian)."""

from __future__ import annotations

from typing import Literal

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from vocl.metrics.ari import AdjustedRandIndex
from vocl.metrics.contingency import TableMetric


def iou_matrix(table: Tensor) -> Tensor:
    """Intersection over union of every true label and slot: counts (..., c, k) -> same, float64.

    A slot's area counts all its points that are not void, those on the background too, so give the
    table with its row 0. 0 where the union is empty.
    """
    table = table.to(torch.float64)
    union = table.sum(-1, keepdim=True) + table.sum(-2, keepdim=True) - table
    return table / union.clamp(min=1)


def best_overlap(table: Tensor) -> Tensor:
    """Mean over the objects present of the IoU with their best slot: counts (..., c, k) -> (...) float64.

    Row 0 is the background and no object. Slots are not used up: several objects may share one, and
    one that covers the background is allowed. nan where no object is present.
    """
    return _mean_present(iou_matrix(table)[..., 1:, :].amax(-1), table)


def matched_overlap(table: Tensor) -> Tensor:
    """As `best_overlap`, but a slot serves one object at most: counts (..., c, k) -> (...) float64.

    The assignment maximises the sum of IoU (Hungarian method). An object left over scores 0. All
    slots are candidates: a model does not say which of them is background.
    """
    if table.ndim > 2:
        return torch.stack([matched_overlap(one) for one in table])
    iou = iou_matrix(table)[1:]
    rows, columns = linear_sum_assignment(iou.cpu().numpy(), maximize=True)
    matched = torch.zeros_like(iou[:, 0])
    matched[rows] = iou[rows, columns]
    return _mean_present(matched, table)


def _mean_present(scores: Tensor, table: Tensor) -> Tensor:
    """Mean of `scores` (..., c - 1) over the objects that `table` (..., c, k) has points of."""
    present = table[..., 1:, :].sum(-1) > 0
    return (scores * present).sum(-1) / present.sum(-1)


class MeanBestOverlap(TableMetric):
    """mBO: mean best overlap over frames or videos; samples without an object do not count."""

    def __init__(self, *, level: Literal["image", "video"]) -> None:
        super().__init__(level=level)

    def values(self, tables: Tensor) -> Tensor:
        return best_overlap(tables)


class MeanIoUVolume(TableMetric):
    """Mean over videos of the one-to-one overlap of space-time volumes.

    Not to be mixed up with the mean IoU that averages the IoU of the frames of a pair before it
    assigns (`miou_frame_avg`).
    """

    def __init__(self) -> None:
        super().__init__(level="video")

    def values(self, tables: Tensor) -> Tensor:
        return matched_overlap(tables)


def scores(*, empty: Literal["one", "skip"]) -> dict[str, TableMetric]:
    """The scores of object discovery by name; `empty` as in `AdjustedRandIndex`."""
    out: dict[str, TableMetric] = {}
    for level in ("image", "video"):
        out[f"{level}_ari"] = AdjustedRandIndex(level=level, foreground=False, empty=empty)
        out[f"{level}_fg_ari"] = AdjustedRandIndex(level=level, foreground=True, empty=empty)
        out[f"{level}_mbo"] = MeanBestOverlap(level=level)
    return out | {"video_miou_volume": MeanIoUVolume()}
