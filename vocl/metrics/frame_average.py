"""Overlap of objects with slots over a whole video, as a mean over its frames (J is one of its kinds).

Letters as in `vocl.metrics.contingency`, and o objects. That published numbers of one name differ has
three causes: what a frame is worth where neither the object nor the slot is, whether a slot is an
object's for the whole video or for a frame, and whether a slot may serve several.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from vocl.metrics.contingency import TableMetric
from vocl.metrics.overlap import OBJECTS, Pairs, assigned

Absent = Literal["skip", "one", "zero"]
Assignment = Literal["video", "frame"]
NEITHER = {"skip": torch.nan, "one": 1.0, "zero": 0.0}


def frame_overlaps(table: Tensor, absent: Absent, pairs: Pairs) -> Tensor:
    """IoU of each object and slot in each frame: counts t c k -> t o k float64.

    `absent`: where neither is, a frame is left out ("skip", nan), or counts as 1 or as 0. Slots that are
    nowhere are added until there are as many as objects: an object that gets none has one of these.
    """
    lacking = max(table.shape[1] - pairs.first_object - (table.shape[2] - pairs.first_slot), 0)
    table = torch.cat([table, table.new_zeros(*table.shape[:2], lacking)], dim=2)
    neither = ~(_somewhere(table.sum(2), pairs.first_object)[:, :, None])
    neither = neither & ~(_somewhere(table.sum(1), pairs.first_slot)[:, None])
    return pairs.iou(table).masked_fill(neither, NEITHER[absent])


def _somewhere(areas: Tensor, first: int) -> Tensor:
    return areas[:, first:] > 0


def frame_means(overlaps: Tensor) -> Tensor:
    """Mean over the frames that count: t o k -> o k; 0 where none does."""
    return overlaps.nanmean(0).nan_to_num(0)


class FrameAverage(TableMetric):
    """Mean over the objects of all videos; an object counts that has a point in any frame."""

    def __init__(self, *, absent: Absent, pairs: Pairs = OBJECTS) -> None:
        super().__init__(level="video")
        self.absent, self.pairs = absent, pairs

    def score(self, table: Tensor) -> tuple[float, int]:
        present = self.pairs.present(table.sum(0))
        table = _without(table, present, self.pairs.first_object)
        if not present.any():
            return 0.0, 0
        found = self.objects(frame_overlaps(table, self.absent, self.pairs))
        return float(found.sum()), len(found)

    def objects(self, overlaps: Tensor) -> Tensor:
        """The score of each object, o, from t o k."""
        raise NotImplementedError


def _without(table: Tensor, present: Tensor, first: int) -> Tensor:
    """`table` without the rows of objects that are not `present`."""
    return torch.cat([table[:, :first], table[:, first:][:, present]], dim=1)


class MatchedFrameAverage(FrameAverage):
    """A slot serves one object at most, assigned (Hungarian method) once for a video or in each frame.

    `miou_frame_avg` of SOLV: absent "skip", assigned per video; J of DAVIS: absent "one", unless frames
    without the object are left out. Assigned per frame, an identity that is lost costs nothing.
    """

    def __init__(self, *, assignment: Assignment, **rest) -> None:
        super().__init__(**rest)
        self.assignment = assignment

    def objects(self, overlaps: Tensor) -> Tensor:
        if self.assignment == "video":
            return assigned(frame_means(overlaps))
        frames = []
        for frame in overlaps:
            counts = ~frame.isnan().all(1)
            own = assigned(frame.nan_to_num(0))
            frames.append(own.masked_fill(~counts, torch.nan))
        return torch.stack(frames).nanmean(0).nan_to_num(0)


class BestFrameAverage(FrameAverage):
    """Each object has the slot that is best over the whole video; slots are not used up."""

    def objects(self, overlaps: Tensor) -> Tensor:
        return frame_means(overlaps).amax(1)
