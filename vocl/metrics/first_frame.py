"""Scores of objects that a video begins with, each handed one segment for the whole video (SOLV's).

Letters as in `vocl.metrics.contingency`. The objects are the true labels that frame 0 has; those
that appear later are background, unless all objects are asked for. One assignment per video joins
objects and segments; a segment without an object is background too.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from vocl.metrics.ari import adjusted_rand_index
from vocl.metrics.contingency import TableMetric
from vocl.ops.matching import assign

Objects = Literal["first_frame", "all"]


def first_frame_table(table: Tensor) -> Tensor:
    """Counts t c k with the objects of frame 0 alone; the others' points count as background."""
    return object_table(table, "first_frame")


def object_table(table: Tensor, objects: Objects) -> Tensor:
    """Counts t c k with those objects alone that frame 0 has, or any frame."""
    chosen = (table[:1] if objects == "first_frame" else table).sum((0, 2)) > 0
    chosen[0] = False
    background = table[:, ~chosen].sum(1, keepdim=True)
    return torch.cat([background, table[:, chosen]], dim=1)


def frame_mean_iou(table: Tensor) -> Tensor:
    """IoU of every label and segment, averaged over the frames where either is: t c k -> c k float64."""
    table = table.to(torch.float64)
    union = table.sum(-1, keepdim=True) + table.sum(-2, keepdim=True) - table
    return (table / union.clamp(min=1)).sum(0) / (union > 0).sum(0).clamp(min=1)


def relabelled(table: Tensor, legacy_rank_bug: bool = False) -> Tensor:
    """Counts t c c of a prediction in the objects' names, from t c k: column c is object c's segment.

    The assignment maximises the sum of `frame_mean_iou` over the objects (Hungarian method); column
    0 takes the segments that are left over. `legacy_rank_bug`: as SOLV's release, take a matched
    segment's rank among those that the video has for its number.
    """
    used = (table.sum((0, 1)) > 0).nonzero().flatten()
    overlap = frame_mean_iou(table[:, :, used])[1:]
    objects, ranks = assign(overlap.cpu().numpy())
    names = torch.zeros(table.shape[-1], dtype=torch.int64)
    for label, rank in zip(objects, ranks, strict=True):
        names[rank if legacy_rank_bug else used[rank]] = int(label) + 1
    renamed = torch.nn.functional.one_hot(names, table.shape[1]).to(table)
    return table @ renamed


class FirstFrameMetric(TableMetric):
    """A score of the objects of frame 0, or of all; a video that has none of them does not count."""

    def __init__(self, *, legacy_rank_bug: bool, objects: Objects = "first_frame") -> None:
        super().__init__(level="video")
        self.legacy_rank_bug, self.objects = legacy_rank_bug, objects

    def score(self, table: Tensor) -> tuple[float, int]:
        table = object_table(table, self.objects)
        return self.scored(table) if table.shape[1] > 1 else (0.0, 0)

    def scored(self, table: Tensor) -> tuple[float, int]:
        """Sum and number of samples of one video with objects, from its counts t c k."""
        return self.matched(relabelled(table, self.legacy_rank_bug))

    def matched(self, table: Tensor) -> tuple[float, int]:
        """The same from its relabelled counts t c c."""
        raise NotImplementedError


class FrameAverageIoU(FirstFrameMetric):
    """IoU of an object and its segment, averaged over frames; mean over the objects of all videos."""

    def matched(self, table: Tensor) -> tuple[float, int]:
        values = frame_mean_iou(table).diagonal()[1:]
        return float(values.sum()), len(values)


class MatchedForegroundARI(FirstFrameMetric):
    """FG-ARI of the relabelled prediction per frame, averaged over frames with objects, then videos."""

    def matched(self, table: Tensor) -> tuple[float, int]:
        objects = table[:, 1:]
        values = adjusted_rand_index(objects)[objects.sum((-2, -1)) > 0]
        return float(values.mean()), 1


class MatchedVolumeARI(FirstFrameMetric):
    """As `MatchedForegroundARI`, of the whole video at once."""

    def matched(self, table: Tensor) -> tuple[float, int]:
        return float(adjusted_rand_index(table[:, 1:].sum(0))), 1


class UnmatchedForegroundARI(MatchedForegroundARI):
    """As `MatchedForegroundARI`, of the segments as they are."""

    def scored(self, table: Tensor) -> tuple[float, int]:
        return self.matched(table)
