"""Assignments and statistics of the DAVIS benchmark."""

from __future__ import annotations

import numpy as np
import pytest

from vocl.metrics.davis import (
    Scores,
    assigned_per_frame,
    assigned_per_video,
    num_objects,
    object_scores,
    one_hot,
    pair_scores,
    statistics,
    summary,
)


def moving(order: list[list[int]], size: int = 24) -> np.ndarray:
    """Label maps with squares side by side, whose labels in frame t are `order[t]`."""
    out = np.zeros((len(order), size, size * len(order[0])), np.uint8)
    for t, labels in enumerate(order):
        for place, label in enumerate(labels):
            out[t, 4 + t : 14 + t, size * place + 5 : size * place + 17] = label
    return out


def pairs_of(found: np.ndarray, truth: np.ndarray) -> Scores:
    return pair_scores(
        (one_hot(p, found.max()), one_hot(t, truth.max()), None) for p, t in zip(found, truth, strict=True)
    )


def test_the_truth_against_itself():
    truth = moving([[1, 2, 3]] * 5)
    for assigned in (assigned_per_video, assigned_per_frame):
        scores, proposals = assigned(pairs_of(truth, truth))
        assert (np.arange(3) == proposals.T).all()
        found = summary([scores])
        assert found.pop("jf") == found["j_recall"] == found["f_mean"] == 1
        assert found["j_decay"] == found["f_decay"] == 0


def test_identities_that_switch_cost_in_the_official_score_alone():
    truth, found = moving([[1, 2]] * 4), moving([[2, 1], [2, 1], [2, 1], [1, 2]])
    pairs = pairs_of(found, truth)
    assert summary([assigned_per_frame(pairs)[0]])["jf"] == 1
    scores, proposals = assigned_per_video(pairs)
    assert proposals.tolist() == [1, 0]
    assert summary([scores])["j_mean"] == pytest.approx(3 / 4)


@pytest.mark.parametrize("seed", range(5))
def test_a_choice_per_frame_is_never_worse(seed):
    rng = np.random.default_rng(seed)
    pairs = Scores(*rng.random((2, 5, 3, 7)))
    sums = [sum(map(np.mean, assigned(pairs)[0])) for assigned in (assigned_per_video, assigned_per_frame)]
    assert sums[0] <= sums[1]


def test_objects_without_a_proposal_score_nothing_unless_they_are_absent():
    truth, found = moving([[1, 2], [1, 0]]), moving([[1, 0], [1, 0]])
    scores, proposals = assigned_per_video(pairs_of(found, truth))
    assert proposals.tolist() == [0, 1]
    assert scores.j.tolist() == scores.f.tolist() == [[1, 1], [0, 1]]


def test_only_labels_up_to_the_largest_of_frame_0_are_objects():
    truth = moving([[1, 0, 0], [1, 2, 3]])
    assert num_objects(truth, 255) == 1
    truth[0, 0, 0] = 255
    assert num_objects(truth, 255) == 1


def test_statistics_by_hand():
    values = np.array([0.9, 0.8, 0.4, 0.2, 0.6])  # quarters: 0 1, 1 2, 2 3, 3 4
    assert statistics(values) == pytest.approx([0.58, 3 / 5, 0.85 - 0.4])
    assert statistics(np.full((2, 300), 0.5)).tolist() == [[0.5, 0, 0]] * 2  # more frames than a byte counts


def test_the_mean_is_over_objects_and_not_over_videos():
    one, three = Scores(*np.zeros((2, 1, 4))), Scores(*np.ones((2, 3, 4)))
    assert summary([one, three])["jf"] == 0.75


def test_an_objects_own_mask():
    truth, found = moving([[1, 2]] * 3), moving([[2, 1]] * 3)
    scores = object_scores((one_hot(p, 2), one_hot(t, 2)) for p, t in zip(found, truth, strict=True))
    assert scores.j.shape == (2, 3) and not scores.j.any()
