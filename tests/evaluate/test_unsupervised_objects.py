"""Unsupervised DAVIS scores of models whose masks are drawn."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from made_up import OPTIONS, MadeUp, Videos, squares, subject_of
from test_single_object import Drawn, per_slot

from vocl.data.truth import Truth
from vocl.evaluate.davis_unsupervised import DavisUnsupervised

MOVING = squares([(0, 2), (2, 2), (4, 4), (6, 6)], [(12, 20), (12, 21), (11, 22), (10, 22)])


def scored(model, videos: Videos, window: int = 24, max_proposals: int = 20, **changes):
    evaluation = DavisUnsupervised(
        split="validation",
        max_videos=None,
        window=window,
        max_proposals=max_proposals,
        threshold=0.3,
        min_score=0.5,
        options=lambda: OPTIONS,
    )
    return evaluation.run(dataclasses.replace(subject_of(model, videos), **changes))


def jf(report) -> list[float]:
    return [report.metrics[f"davis_{rule}_jf"] for rule in ("official", "per_frame", "per_frame_soft")]


@pytest.mark.parametrize("window", [1, 3, 24])
def test_the_truth_scores_one_by_every_rule(window):
    report = scored(Drawn(), Videos([MadeUp("a", MOVING), MadeUp("b", MOVING[:2])]), window)
    assert jf(report) == [1, 1, 1]
    assert [row["num_objects"] for row in report.rows] == [2, 2]
    assert report.metrics["davis_official_j_decay"] == 0
    assert report.measures["davis_per_frame_soft_f_decay"].higher_is_better is False


def test_identities_that_switch_cost_in_the_official_score_alone():
    switched = MOVING.copy()
    switched[2:] = np.select([MOVING[2:] == 1, MOVING[2:] == 2], [2, 1], 0)
    report = scored(Drawn(), Videos([MadeUp("v", switched)], {"v": Truth.from_labels(MOVING)}))
    official, *others = jf(report)
    assert others == [1, 1] and 0.4 < official < 0.6
    assert report.rows[0]["davis_official_jf"] == pytest.approx(official)


def test_only_so_many_proposals_count_officially():
    """Slots of a single object among ten: the largest, or those of highest score, are the proposals."""
    model = Drawn(slots=10)
    videos = Videos([MadeUp("v", MOVING)])
    assert jf(scored(model, videos, max_proposals=1)) == [pytest.approx(0.0, abs=0.2)] * 2 + [1]
    scores = per_slot([0.5, 0.9, 0.8, *[0.0] * 7])
    assert jf(scored(Drawn(slots=10, scores=scores), videos, max_proposals=2)) == [1, 1, 1]


def test_slots_of_low_score_are_no_proposals():
    scores = per_slot([0.9, 0.9, 0.3])
    report = scored(Drawn(scores=scores), Videos([MadeUp("v", MOVING)]))
    assert jf(report)[0] == pytest.approx(report.rows[0]["davis_official_jf"])
    assert all(0.4 < value < 0.7 for value in jf(report))


def test_overlapping_masks_have_one_owner_per_pixel_officially():
    report = scored(Drawn(soften=0.5, exclusive=lambda _: False), Videos([MadeUp("v", MOVING)]))
    assert jf(report) == [1, 1, 1]


def test_objects_that_come_later_and_void_do_not_count():
    truth = MOVING.copy()
    truth[0][truth[0] == 2] = 0
    truth[1:][truth[1:] == 2] = 255
    report = scored(Drawn(), Videos([MadeUp("v", MOVING)], {"v": Truth.from_labels(truth)}))
    assert jf(report) == [1, 1, 1] and report.rows[0]["num_objects"] == 1


def test_a_video_that_begins_without_an_object_says_nothing():
    videos = [MadeUp("a", MOVING), MadeUp("b", MOVING * 0)]
    kept = {}
    report = scored(Drawn(), Videos(videos), keep=lambda name, masks: kept.update({name: masks}))
    assert jf(report) == [1, 1, 1]
    assert np.isnan(report.rows[1]["davis_official_jf"]) and report.rows[1]["num_objects"] == 0
    assert kept["a"].shape == (4, 3, 768) and kept["a"].dtype == np.uint8 and kept["a"].max() == 255


def test_fewer_slots_than_objects():
    report = scored(Drawn(slots=1), Videos([MadeUp("v", MOVING * 0)], {"v": Truth.from_labels(MOVING)}))
    assert 0 < jf(report)[0] < 0.1 and torch.tensor(jf(report)).isfinite().all()
