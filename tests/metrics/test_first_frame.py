"""Scores of the objects a video begins with, against maps relabelled by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from vocl.metrics.contingency import contingency
from vocl.metrics.first_frame import (
    FrameAverageIoU,
    MatchedForegroundARI,
    UnmatchedForegroundARI,
    frame_mean_iou,
    relabelled,
)


def table(truth, labels, slots):
    truth, labels = torch.as_tensor(truth, dtype=torch.uint8), torch.as_tensor(labels)
    return contingency(truth, labels, int(truth.max()) + 1, slots)


def by_hand(truth, labels, chosen="first_frame"):
    """(IoU of each object, mean FG-ARI over frames, and of labels as they are) by brute force over all
    assignments."""
    from sklearn.metrics import adjusted_rand_score

    objects = sorted(set(np.unique(truth[0] if chosen == "first_frame" else truth)) - {0})
    truth = np.where(np.isin(truth, objects), truth, 0)
    segments = sorted(np.unique(labels))
    iou = np.zeros((len(objects), len(segments)))
    for (i, o), (j, s) in itertools.product(enumerate(objects), enumerate(segments)):
        frames = [((t == o), (p == s)) for t, p in zip(truth, labels, strict=True)]
        iou[i, j] = np.mean([(a & b).sum() / (a | b).sum() for a, b in frames if (a | b).any()])
    columns = [*range(len(segments)), *[None] * len(objects)]
    best = max(
        itertools.permutations(columns, len(objects)),
        key=lambda p: sum(iou[i, j] for i, j in enumerate(p) if j is not None),
    )
    renamed = np.zeros_like(labels)
    for o, j in zip(objects, best, strict=True):
        if j is not None:
            renamed[labels == segments[j]] = o
    frames = [(t, r, p) for t, r, p in zip(truth, renamed, labels, strict=True) if (t > 0).any()]
    aris = [[adjusted_rand_score(t[t > 0], x[t > 0]) for x in (r, p)] for t, r, p in frames]
    return [iou[i, j] if j is not None else 0.0 for i, j in enumerate(best)], *np.mean(aris, axis=0)


@pytest.mark.parametrize("chosen", ["first_frame", "all"])
@pytest.mark.parametrize("seed", range(6))
def test_the_scores_are_those_of_the_relabelled_maps(seed, chosen):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 4, size=(3, 6, 7))
    truth[0][truth[0] == 1 + seed % 3] = 0  # an object that appears later
    labels = np.where(rng.random(truth.shape) < 0.6, truth + 1, rng.integers(0, 5, size=truth.shape))
    counts, settings = table(truth, labels, 6), {"legacy_rank_bug": False, "objects": chosen}
    overlaps, ari, unmatched = by_hand(truth, labels, chosen)
    assert len(overlaps) == (2 if chosen == "first_frame" else 3)
    total, count = FrameAverageIoU(**settings).score(counts)
    assert (total, count) == (pytest.approx(sum(overlaps)), len(overlaps))
    assert MatchedForegroundARI(**settings).score(counts) == (pytest.approx(ari), 1)
    assert UnmatchedForegroundARI(**settings).score(counts) == (pytest.approx(unmatched), 1)


TRUTH = np.zeros((2, 4, 6), int)
TRUTH[:, :2, :2], TRUTH[:, 2:, 3:] = 1, 2
GAP = np.choose(TRUTH, [0, 2, 4])  # segments 1 and 3 appear nowhere


def both(labels, truth=TRUTH, slots=5, legacy=False):
    counts = table(truth, labels, slots)
    return [m(legacy_rank_bug=legacy).score(counts) for m in (FrameAverageIoU, MatchedForegroundARI)]


def test_a_perfect_prediction_scores_one_and_a_gap_in_the_names_does_not_matter():
    assert both(TRUTH) == both(GAP) == [(2.0, 2), (1.0, 1)]


def test_the_releases_bug_loses_objects_behind_a_gap():
    assert both(TRUTH, legacy=True) == [(2.0, 2), (1.0, 1)]
    assert both(GAP, legacy=True)[0] == (0.0, 2)  # segment 2 is object 1, and is called 2 by its rank
    crossed = np.choose(TRUTH, [0, 4, 3])  # ranks 1 and 2 name no segment: both objects are lost
    assert both(crossed) == [(2.0, 2), (1.0, 1)]
    assert both(crossed, legacy=True) == [(0.0, 2), (0.0, 1)]


def test_objects_that_appear_later_are_background_and_an_empty_begin_does_not_count():
    late = TRUTH.copy()
    late[0][late[0] == 2] = 0
    ((overlap, count), _) = both(np.where(late == 1, 1, 0), late)
    assert (overlap, count) == (1.0, 1)
    nothing = TRUTH.copy()
    nothing[0] = 0
    assert both(TRUTH, nothing) == [(0.0, 0), (0.0, 0)]
    everything = FrameAverageIoU(legacy_rank_bug=False, objects="all")
    assert everything.score(table(nothing, TRUTH, 5)) == (1.0, 2)  # in the frame that they are not in: 0
    assert everything.score(table(TRUTH * 0, TRUTH, 5)) == (0.0, 0)


def test_an_object_without_a_segment_scores_zero_and_left_over_segments_are_background():
    one = np.zeros_like(TRUTH)
    (overlap, count), (ari, _) = both(one, slots=1)
    assert count == 2 and overlap == pytest.approx(6 / 24)
    assert ari == 0
    split = TRUTH.copy()
    split[:, 3, 5] = 3  # a corner of object 2
    counts = relabelled(table(TRUTH, split, 4))
    assert counts[:, 2].tolist() == [[1, 0, 5], [1, 0, 5]]


def test_frames_where_neither_is_do_not_count_in_the_mean():
    truth = np.stack([TRUTH[0], TRUTH[0] * 0])
    assert frame_mean_iou(table(truth, truth, 3)).diagonal().tolist() == pytest.approx(
        [0.5 * (14 / 14 + 1), 1, 1]
    )
