"""Whether an object that was out of sight is where it should be when it is seen again.

Letters as in `vocl.metrics.contingency`, and o objects.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vocl.metrics.contingency import TableMetric
from vocl.metrics.overlap import OBJECTS, Pairs


class ReappearedIoU(TableMetric):
    """IoU of objects that come back into sight after frame `first`, with the slot they had before it.

    Which objects count is told by the truth, the same for every method. An object's share in a frame is
    its points there over the most that it has in any frame of the video. It counts in frame t >= `first`
    if its share is at least `seen` in t and in a frame before `first`, and below `hidden` in a frame
    between the two: behind another object, or out of the picture. Its slot is that of the highest IoU
    over the frames before `first` together, so one that comes back in another slot scores 0. One sample
    per object and such frame; undefined where there is none.

    No ARI: of one object alone it is 1 whenever its points are one slot's.
    """

    tells_chances = True

    def __init__(self, *, first: int, hidden: float, seen: float, pairs: Pairs = OBJECTS) -> None:
        super().__init__(level="video")
        self.first, self.hidden, self.seen, self.pairs = first, hidden, seen, pairs

    def score(self, table: Tensor) -> tuple[float, int]:
        """From the counts t c k of a whole video."""
        if len(table) <= self.first:
            return 0.0, 0
        areas = table[:, self.pairs.first_object :].sum(-1)
        counts = reappeared(areas, self.first, self.hidden, self.seen)
        slots = self.pairs.iou(table[: self.first].sum(0)).argmax(-1)
        index = slots.view(1, -1, 1).expand(len(counts), -1, 1)
        own = self.pairs.iou(table[self.first :]).gather(2, index).squeeze(2)
        return float(own[counts].sum()), int(counts.sum())


def reappeared(areas: Tensor, first: int, hidden: float, seen: float) -> Tensor:
    """In which frames from `first` on an object is seen again: points t o -> t - first, o bool.

    See `ReappearedIoU`.
    """
    share = areas / areas.amax(0).clamp(min=1)
    visible, away = share >= seen, share < hidden
    known = visible[:first].cummax(0).values if first else visible[:0]
    known = torch.cat([known, known[-1:].expand(len(areas) - first, -1)])
    lost = (away & known).cummax(0).values
    return (visible & lost)[first:]
