"""Whether objects are found, by how many slots, and whether each keeps its own: small tables by hand."""

from __future__ import annotations

import pytest
import torch

from vocl.metrics.frame_average import BestFrameAverage, MatchedFrameAverage
from vocl.metrics.overlap import MeanBestOverlap, MeanIoUVolume, Pairs
from vocl.metrics.presence import (
    AtFrames,
    CorLoc,
    Fragmentation,
    Identification,
    Reappearance,
    SlotSwitchRate,
)

BACKGROUND = [90, 0, 0, 0]


def frames(*objects: list[list[int]]) -> torch.Tensor:
    """Counts t c k: the background in slot 0, and the rows of each frame's objects."""
    return torch.tensor([[BACKGROUND, *rows] for rows in objects])


def mean(metric, table) -> float:
    total, count = metric.score(table)
    return total / count


HALF, MORE = [5, 5, 0, 0], [4, 6, 0, 0]  # IoU of slot 1 is 0.5 and 0.6
LOST, GONE = [10, 0, 0, 0], [0, 0, 0, 0]


def test_corloc_is_strict_and_counts_frames_with_objects_alone():
    table = frames([HALF, LOST], [MORE, LOST], [GONE, GONE])
    assert CorLoc(level="image").score(table) == (1, 2)
    assert CorLoc(level="video").score(table) == (1, 1)  # 11 of 20 points
    assert CorLoc(level="video").score(table[:1]) == (0, 1)
    assert CorLoc(level="video").score(table[2:]) == (0, 0)


def test_identification_counts_objects_in_frames_or_videos():
    table = frames([HALF, MORE], [MORE, GONE], [GONE, [0, 0, 10, 0]])
    # in frame 0 the slot covers 11 points: 5 of 16 and 6 of 15
    assert Identification(level="image").score(table) == (2, 4)
    assert Identification(level="video").score(table) == (0, 2)  # 11 of 26; 10 of 20, no more than half


def test_fragments_are_slots_whose_own_points_are_mostly_an_objects():
    whole, split = [0, 10, 0, 0], [0, 4, 3, 3]
    assert Fragmentation(level="image").score(frames([whole], [split], [LOST])) == (1 + 3, 3)
    leaking = torch.tensor([[[90, 5, 3, 2], [0, 5, 4, 1]]])  # 5 of 10, 4 of 7, 1 of 3
    assert Fragmentation(level="image").score(leaking) == (1, 1)
    crumb = torch.tensor([[[10_000, 0, 0, 0], [0, 100, 5, 11]]])  # of 10116 points, 5 are no fragment
    assert Fragmentation(level="video").score(crumb) == (2, 1)


def test_a_switch_counts_only_where_the_object_is_found_before_and_after():
    first, second, poor = [0, 10, 0, 0], [0, 0, 10, 0], [6, 0, 4, 0]
    table = frames([first], [first], [second], [poor], [first], [GONE], [second])
    assert SlotSwitchRate().score(table) == (1, 2)
    assert SlotSwitchRate().score(frames([HALF], [HALF])) == (0, 1)  # 0.5 is enough
    assert SlotSwitchRate.higher_is_better is False


def test_objects_that_come_back_by_how_long_they_were_away():
    first, second = [0, 10, 0, 0], [0, 0, 10, 0]
    table = frames([first], [GONE], [first], [GONE], [GONE], [second], [GONE], [LOST])

    def kept(shortest, longest):
        return Reappearance(shortest=shortest, longest=longest).score(table)

    assert kept(1, None) == (1, 3)
    assert kept(1, 1) == (1, 2)  # back in its slot; found by no slot any more
    assert kept(2, 4) == (0, 1) and kept(5, None) == (0, 0)
    lost_before = frames([LOST], [GONE], [first])
    assert Reappearance(shortest=1, longest=None).score(lost_before) == (0, 0)


def test_scores_by_frame_index():
    table = frames([[0, 10, 0, 0]], [HALF], [HALF])
    overlap = MeanBestOverlap(level="image")
    assert AtFrames(overlap, first=0, last=0).score(table) == (1, 1)
    assert AtFrames(overlap, first=1, last=5).score(table) == (1, 2)
    assert AtFrames(overlap, first=3, last=None).score(table) == (0, 0)


@pytest.mark.parametrize(("absent", "expected"), [("skip", 0.5), ("one", 2 / 3), ("zero", 1 / 3)])
def test_a_frame_without_object_and_slot(absent, expected):
    table = torch.tensor([[[90, 0], [5, 5]], [[90, 0], [5, 5]], [[95, 0], [0, 0]]])
    for kind in (
        MatchedFrameAverage(absent=absent, assignment="video", pairs=Pairs(1, 1)),
        MatchedFrameAverage(absent=absent, assignment="frame", pairs=Pairs(1, 1)),
        BestFrameAverage(absent=absent, pairs=Pairs(1, 1)),
    ):
        assert mean(kind, table) == pytest.approx(expected)


def test_an_object_left_over_has_a_segment_that_is_nowhere():
    table = torch.tensor([[[90, 0], [0, 9], [5, 0]], [[90, 0], [0, 9], [0, 0]]])
    settings = {"assignment": "video", "pairs": Pairs(1, 1)}
    assert MatchedFrameAverage(absent="one", **settings).score(table) == (1 + 0.5, 2)
    assert MatchedFrameAverage(absent="skip", **settings).score(table) == (1, 2)


def test_one_assignment_per_video_or_per_frame():
    first, second = [0, 10, 0, 0], [0, 0, 10, 0]
    table = frames([first, second], [second, first], [second, first])
    assert mean(MatchedFrameAverage(absent="skip", assignment="video"), table) == pytest.approx(2 / 3)
    assert mean(MatchedFrameAverage(absent="skip", assignment="frame"), table) == 1
    assert mean(BestFrameAverage(absent="skip"), table) == pytest.approx(2 / 3)


def test_the_background_as_an_object():
    table = torch.tensor([[[80, 0], [10, 10]]])  # slot 0: 80 of 90 are background
    assert mean(MeanBestOverlap(level="video", pairs=Pairs(0)), table) == pytest.approx((8 / 9 + 0.5) / 2)
    assert mean(MeanIoUVolume(pairs=Pairs(0)), table) == pytest.approx((8 / 9 + 0.5) / 2)
    assert mean(MeanBestOverlap(level="video"), table) == 0.5


def test_what_is_labelled_0_may_be_nobodys():
    table = torch.tensor([[[0, 80], [20, 0]]])  # the object is what is labelled 0
    assert mean(MeanBestOverlap(level="video"), table) == 1
    assert mean(MeanBestOverlap(level="video", pairs=Pairs(1, 1)), table) == 0


def test_one_to_one_means_are_at_most_the_best():
    tables = torch.randint(0, 50, (20, 6, 4, 5), generator=torch.Generator().manual_seed(0))
    for table in tables:
        for absent in ("skip", "one", "zero"):
            matched = MatchedFrameAverage(absent=absent, assignment="video").score(table)[0]
            freely = MatchedFrameAverage(absent=absent, assignment="frame").score(table)[0]
            best = BestFrameAverage(absent=absent).score(table)[0]
            assert matched <= best + 1e-12 and matched <= freely + 1e-12
