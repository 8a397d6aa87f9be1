"""Objects that were out of sight, worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from vocl.metrics.rollout import ReappearedIoU, reappeared


@pytest.mark.parametrize(
    ("areas", "counts"),
    [
        ([9, 9, 0, 9], [False, True]),  # behind another for a frame
        ([9, 0, 9, 9], [True, True]),  # gone in the last frame that is shown
        ([0, 0, 9, 9], [False, False]),  # it was never shown
        ([9, 9, 9, 9], [False, False]),
        ([9, 9, 0, 0], [False, False]),  # it does not come back
        ([9, 9, 1, 4], [False, False]),  # less than half of it comes back
        ([9, 9, 3, 9], [False, False]),  # a third is not hidden
        ([0, 9, 2, 5], [False, True]),
        ([0, 0, 0, 0], [False, False]),
    ],
)
def test_which_objects_come_back(areas: list[int], counts: list[bool]) -> None:
    found = reappeared(torch.tensor(areas).unsqueeze(1), first=2, hidden=0.25, seen=0.5)
    assert found.flatten().tolist() == counts


def table(*frames: list[list[int]]) -> torch.Tensor:
    """Counts t c k with a background of ten points in slot 0."""
    return torch.tensor([[[10, 0, 0], *objects] for objects in frames])


def test_an_object_is_looked_for_in_the_slot_that_it_had() -> None:
    metric = ReappearedIoU(first=2, hidden=0.25, seen=0.5)
    whole, gone = [[0, 8, 0]], [[0, 0, 0]]
    assert metric.score(table(whole, whole, gone, whole)) == (1.0, 1)
    assert metric.score(table(whole, whole, gone, [[0, 6, 2]])) == (0.75, 1)
    assert metric.score(table(whole, whole, gone, [[0, 0, 8]])) == (0.0, 1)  # another slot's now
    assert metric.score(table(whole, gone, whole, [[4, 4, 0]])) == (1.5, 2)


def test_a_video_without_such_an_object_says_nothing() -> None:
    metric = ReappearedIoU(first=2, hidden=0.25, seen=0.5)
    still = table(*[[[0, 8, 0]]] * 4)
    assert metric.score(still) == (0.0, 0) and metric.score(still[:2]) == (0.0, 0)
    assert math.isnan(metric(still))
