"""Matched objects over several draws, on models whose answers are known."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score
from test_first_frame_objects import DATASET, Oracle, Squares, report

from vocl.evaluate.matched_objects import MatchedObjects
from vocl.evaluate.protocol import Protocol
from vocl.evaluate.seeds import average
from vocl.interface import Report, SegmentOptions, Subject
from vocl.ops.random import uniform

OWN = {"legacy_rank_bug": False, "gt_objects": "first_frame", "num_seeds": 1}


class Drawing(Oracle):
    """An oracle that gives both squares one channel in about every third draw."""

    def segment(self, clip, options, carry=None):
        lost = uniform(clip.key, "lost", ()) < 0.35
        self.channels = torch.tensor((0, 1, 1, 1) if lost else (0, 1, 2, 3))
        return super().segment(clip, options, carry)


def evaluation(seed: int, **own) -> MatchedObjects:
    protocol = functools.partial(Protocol, name="p", resolution="truth", overlap="paint", empty="skip")
    options = functools.partial(SegmentOptions, cyclic=False, iterations=None, seed=seed)
    rest = {"split": "s", "max_videos": None, "window": 4, "protocol": protocol, "options": options}
    return MatchedObjects(**rest, **(OWN | own))


def run(model, seed: int = 0, keep=None, **own) -> Report:
    source = Squares()
    subject = Subject(model, DATASET, lambda split: source, torch.device("cpu"), keep=keep)
    return evaluation(seed, **own).run(subject)


def test_with_one_draw_of_the_first_frames_objects_it_is_that_evaluation():
    theirs = report(Oracle((2, 0, 5, 1)), legacy_rank_bug=False)
    ours = run(Oracle((2, 0, 5, 1)))
    assert {name: ours.metrics[name] for name in theirs.metrics} == theirs.metrics
    assert set(ours.metrics) - set(theirs.metrics) == {"image_fg_ari_unmatched"}
    assert MatchedObjects.scores == set(ours.metrics)


def test_all_objects_count_if_they_are_to():
    """v1's third object appears later and is in the background's segment; v2 begins empty."""
    some, every = (run(Oracle((0, 1, 2, 0)), gt_objects=chosen) for chosen in ("first_frame", "all"))
    assert [row["video_miou_frame_avg"] for row in some.rows[:2]] == [1.0, 1.0]
    assert math.isnan(some.rows[2]["video_miou_frame_avg"])
    v0, v1, v2 = (row["video_miou_frame_avg"] for row in every.rows)
    assert v0 == v2 == 1 and 2 / 3 < v1 < 0.7
    assert every.metrics["video_miou_frame_avg"] == pytest.approx((2 + 3 * v1 + 2) / 7)


def test_labels_as_they_are_and_after_matching():
    """Each square's last rows are in a segment of their own; after matching both are background."""

    class Split(Oracle):
        def segment(self, clip, options, carry=None):
            found = super().segment(clip, options, carry)
            for channel, other, points in ((1, 4, slice(24, 32)), (2, 5, slice(48, 64))):
                found.masks[:, :, other, points] = found.masks[:, :, channel, points]
                found.masks[:, :, channel, points] = 0
            return found

    row = run(Split()).rows[0]
    truth, sizes = np.repeat([1, 2], [16, 12]), [12, 4, 6, 6]
    raw, matched = (
        adjusted_rand_score(truth, np.repeat(labels, sizes)) for labels in ([1, 4, 2, 5], [1, 0, 2, 0])
    )
    assert raw != pytest.approx(matched)
    assert row["image_fg_ari_unmatched"] == pytest.approx(raw)
    assert row["image_fg_ari_matched"] == pytest.approx(matched)


def test_scores_are_means_over_the_draws():
    each = [run(Drawing(), seed) for seed in (5, 6, 7)]
    kept = []
    mean = run(Drawing(), 5, keep=lambda name, masks: kept.append(name), num_seeds=3)
    for name, value in mean.metrics.items():
        assert value == pytest.approx(np.mean([one.metrics[name] for one in each])), name
    scores = {one.metrics["video_miou_frame_avg"] for one in each}
    assert len(scores) > 1  # or nothing was tested
    for row, *rows in zip(mean.rows, *(one.rows for one in each), strict=True):
        expected = np.mean([other["image_fg_ari_matched"] for other in rows])
        assert row["image_fg_ari_matched"] == pytest.approx(expected, nan_ok=True)
        assert row["num_frames"] == 4 and isinstance(row["num_frames"], int)
    assert kept == ["v0", "v1", "v2"]  # of the first draw alone


def test_an_average_keeps_what_is_no_number():
    reports = [
        Report("p", [{"video": "a", "x": value, "n": 2, "why": "b", "nothing": math.nan}], {"x": value})
        for value in (0.25, 0.75)
    ]
    found = average(reports)
    assert found.metrics == {"x": 0.5} and found.protocol == "p"
    (row,) = found.rows
    assert math.isnan(row.pop("nothing")) and row == {"video": "a", "x": 0.5, "n": 2, "why": "b"}
    assert average(reports[:1]).metrics == {"x": 0.25}
