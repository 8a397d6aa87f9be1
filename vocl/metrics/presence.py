"""Whether objects are found at all, by how many slots, and whether each keeps the slot it has.

Letters as in `vocl.metrics.contingency`, and o objects. All follow from the IoU of objects and slots in
frames, or of their volumes in a video.
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar, Literal

import torch
from torch import Tensor

from vocl.interface import Measure
from vocl.metrics.contingency import TableMetric
from vocl.metrics.overlap import OBJECTS, Pairs

FOUND = 0.5  # an object is found by a slot whose IoU is above this
FRAGMENT_AREA = 0.001  # share of a frame's points below which a slot is no fragment but a few stray points


class CorLoc(TableMetric):
    """Share of frames or videos with objects in which at least one is found (IoU above 0.5, strictly)."""

    def __init__(self, *, level: Literal["image", "video"], pairs: Pairs = OBJECTS) -> None:
        super().__init__(level=level)
        self.pairs = pairs

    def values(self, tables: Tensor) -> Tensor:
        found = (self.pairs.iou(tables) > FOUND).any(-1).any(-1)
        return found.double().masked_fill(~self.pairs.present(tables).any(-1), torch.nan)


class Identification(TableMetric):
    """Share of objects that a slot finds (IoU above 0.5): of those visible in each frame, or of a video's."""

    def __init__(self, *, level: Literal["image", "video"], pairs: Pairs = OBJECTS) -> None:
        super().__init__(level=level)
        self.pairs = pairs

    def values(self, tables: Tensor) -> Tensor:
        """One sample per object: s c k -> (s o)."""
        found = (self.pairs.iou(tables) > FOUND).any(-1).double()
        return found.masked_fill(~self.pairs.present(tables), torch.nan).flatten()


class Fragmentation(TableMetric):
    """Mean number of slots per object, visible in a frame or in a video: 1 is right, below it objects are
    lost, above it they are split.

    A slot is an object's if most of the slot's own points are the object's, and it is no crumb. By IoU
    above 0.5 at most one slot could ever be.
    """

    higher_is_better = None
    unit: ClassVar[Measure] = Measure(higher_is_better=None, scale=1, digits=2)

    def __init__(self, *, level: Literal["image", "video"], pairs: Pairs = OBJECTS) -> None:
        super().__init__(level=level)
        self.pairs = pairs

    def values(self, tables: Tensor) -> Tensor:
        """One sample per object: s c k -> (s o)."""
        tables = tables.to(torch.float64)
        areas, points = tables.sum(-2, keepdim=True), tables.sum((-2, -1), keepdim=True)
        own = (tables > areas / 2) & (areas >= FRAGMENT_AREA * points)
        counts = own[..., self.pairs.first_object :, self.pairs.first_slot :].sum(-1).double()
        return counts.masked_fill(~self.pairs.present(tables), torch.nan).flatten()


def held_slots(table: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Each object's slot in each frame, and whether it is visible there: counts t c k -> t o, t o bool.

    The slot of highest IoU if that is at least 0.5, else -1: a slot that misses an object says nothing of
    whom it follows.
    """
    best = pairs.iou(table).max(-1)
    return best.indices.masked_fill(best.values < FOUND, -1), pairs.present(table)


class SlotSwitchRate(TableMetric):
    """Share of the steps from a frame to the next in which an object found in both has changed its slot."""

    higher_is_better = False
    tells_chances = True

    def __init__(self, *, pairs: Pairs = OBJECTS) -> None:
        super().__init__(level="video")
        self.pairs = pairs

    def score(self, table: Tensor) -> tuple[float, int]:
        slots, visible = held_slots(table, self.pairs)
        held = visible & (slots >= 0)
        chances = held[1:] & held[:-1]
        return float(((slots[1:] != slots[:-1]) & chances).sum()), int(chances.sum())


class Reappearance(TableMetric):
    """Share of the objects that come back after `shortest` to `longest` frames of absence to the slot they
    had: it finds them again (IoU at least 0.5) in the first frame where they are visible.

    Only objects that a slot had found in the last frame before count; `longest` None: no limit.
    """

    tells_chances = True

    def __init__(self, *, shortest: int, longest: int | None, pairs: Pairs = OBJECTS) -> None:
        super().__init__(level="video")
        self.shortest, self.longest, self.pairs = shortest, longest, pairs

    def score(self, table: Tensor) -> tuple[float, int]:
        slots, visible = held_slots(table, self.pairs)
        kept = [
            slots[after, o] == slots[before, o]
            for o in range(slots.shape[1])
            for before, after in gaps(visible[:, o])
            if slots[before, o] >= 0 and self._counts(after - before - 1)
        ]
        return float(sum(kept)), len(kept)

    def _counts(self, absence: int) -> bool:
        return self.shortest <= absence and (self.longest is None or absence <= self.longest)


def gaps(visible: Tensor) -> list[tuple[int, int]]:
    """The last frame before and the first after each absence of one object: t bool -> frames."""
    seen = visible.nonzero().flatten().tolist()
    return [(a, b) for a, b in pairwise(seen) if b > a + 1]


class AtFrames(TableMetric):
    """Another score, of which more is better, of the frames `first` to `last` of each video alone (`last`
    None: to its end)."""

    def __init__(self, metric: TableMetric, *, first: int, last: int | None) -> None:
        super().__init__(level=metric.level)
        self.metric, self.first, self.last = metric, first, last

    def score(self, table: Tensor) -> tuple[float, int]:
        part = table[self.first : None if self.last is None else self.last + 1]
        return self.metric.score(part) if len(part) else (0.0, 0)
