"""Rollouts scored on videos whose future is known, of models that know it, miss it or swap it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from made_up import OPTIONS, MadeUp, Videos, labels_of, squares, subject_of

from vocl.config.check import check
from vocl.config.compose import compose
from vocl.errors import UserError
from vocl.evaluate.downstream.dynamics import Dynamics
from vocl.evaluate.protocol import Protocol
from vocl.interface import Grid, Segments, VideoModel

PROTOCOL = Protocol(name="vocl", resolution="truth", overlap="drop", empty="skip")


class Seer(VideoModel):
    """Segments are the objects; slots say the number of their frame; what it foretells is given."""

    def __init__(self, future: np.ndarray, slots: int = 3) -> None:
        super().__init__()
        self.future, self.slots, self.shown = torch.from_numpy(future).long(), slots, []

    def masks(self, labels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.one_hot(labels.flatten(-2), self.slots).transpose(-1, -2).float()

    def segment(self, clip, options, carry=None):
        masks = self.masks(labels_of(clip.video))
        frames = clip.frames.view(1, -1, 1, 1).expand(-1, -1, self.slots, 2).float()
        return Segments(masks=masks, grid=Grid(24, 32), slots=frames)

    def roll_out(self, slots, horizon):
        self.shown.append(slots[0, :, 0, 0].tolist())
        masks = self.masks(self.future[:horizon]).unsqueeze(0)
        return Segments(masks=masks, grid=Grid(24, 32), slots=torch.zeros(1, horizon, self.slots, 2))


def evaluation(**changes) -> Dynamics:
    settings = {"split": "validation", "max_videos": None, "window": 3, "options": lambda: OPTIONS}
    settings |= {"burn_in": 3, "horizon": None, "hidden": 0.25, "seen": 0.5, "protocol": lambda: PROTOCOL}
    return Dynamics(**(settings | changes))


def moving(length: int = 8) -> np.ndarray:
    return squares([(2, 2 * t) for t in range(length)], [(14, 20 - 2 * t) for t in range(length)])


def scores(labels: np.ndarray, future: np.ndarray, **changes):
    model, source = Seer(future), Videos([MadeUp("a", labels)])
    return evaluation(**changes).run(subject_of(model, source)), model


def test_who_knows_the_future_is_right_and_the_copy_is_not():
    labels = moving()
    report, model = scores(labels, labels[3:])
    found = report.metrics
    assert model.shown == [[0.0, 1.0, 2.0]]  # whatever the window, and no frame beyond
    for kind in ("rollout", "encoder"):
        assert found[f"{kind}_fg_ari"] == found[f"{kind}_mbo"] == found[f"{kind}_fg_ari_4"] == 1.0
    assert found["copy_mbo"] < 0.6
    assert found["copy_fg_ari_4"] < found["copy_fg_ari_1"] < 1
    assert math.isnan(found["rollout_fg_ari_8"])  # five frames are foretold
    assert report.rows[0]["num_foretold"] == 5 and set(found) >= Dynamics.scores


def test_a_rollout_that_stands_still_scores_as_the_copy():
    labels = moving()
    found = scores(labels, np.repeat(labels[2:3], 5, axis=0))[0].metrics
    for name in ("fg_ari", "mbo", "fg_ari_1", "fg_ari_2", "fg_ari_4"):
        assert found[f"rollout_{name}"] == found[f"copy_{name}"]


def test_the_frames_that_are_shown_count_in_no_score():
    labels = moving()
    shown_badly = labels.copy()
    shown_badly[:3] = labels[:3] > 0  # one slot for both
    model, truth = Seer(labels[3:]), Videos([MadeUp("a", labels)])
    source = Videos([MadeUp("a", shown_badly)], truth.truths)
    found = evaluation().run(subject_of(model, source)).metrics
    assert found["rollout_fg_ari"] == found["encoder_fg_ari"] == 1.0 and found["copy_fg_ari"] < 0.1


def test_a_horizon_ends_what_counts():
    labels = moving()
    future = labels[3:].copy()
    future[2:] = 0
    found = scores(labels, future, horizon=2)[0]
    assert found.metrics["rollout_fg_ari"] == 1.0 and found.rows[0]["num_foretold"] == 2
    assert scores(labels, future)[0].metrics["rollout_fg_ari"] < 0.9


def hiding() -> np.ndarray:
    """Object 1 is behind object 2 in frames 3 and 4, and stands where it stood in frame 5."""
    labels = squares([(4, 4)] * 7, [(14, 20)] * 7)
    labels[3:5][labels[3:5] == 1] = 2
    return labels


def test_an_object_that_was_hidden_is_to_keep_its_slot():
    labels = hiding()
    right = scores(labels, labels[3:])[0]
    assert right.metrics["rollout_reappeared_iou"] == right.metrics["encoder_reappeared_iou"] == 1.0
    assert right.rows[0]["num_rollout_reappeared_iou_chances"] == 2  # in frames 5 and 6
    swapped = np.choose(labels[3:], [0, 2, 1]).astype(np.uint8)
    found = scores(labels, swapped)[0].metrics
    assert found["rollout_reappeared_iou"] == 0.0 and found["rollout_fg_ari"] == 1.0
    assert math.isnan(scores(moving(), moving()[3:])[0].metrics["rollout_reappeared_iou"])


def test_short_videos_score_nothing_and_a_split_of_them_is_refused():
    labels = moving()
    short = Videos([MadeUp("a", labels), MadeUp("b", labels[:3])])
    report = evaluation().run(subject_of(Seer(labels[3:]), short))
    assert [row["num_foretold"] for row in report.rows] == [5, 0]
    assert report.metrics["rollout_fg_ari"] == 1.0 and math.isnan(report.rows[1]["rollout_fg_ari"])
    evaluation().check(short, "here")
    with pytest.raises(UserError, match=r"here: videos have 8 frames or fewer; .* ask for 12"):
        evaluation(horizon=9).check(short, "here")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"options": lambda: replace(OPTIONS, cyclic=True)}, r"options\.cyclic=true: .* choose false"),
        ({"options": lambda: replace(OPTIONS, masks="attention")}, r"options\.masks=attention: .* decoder"),
        ({"hidden": 0.6}, r"hidden=0\.6: .* seen=0\.5"),
        ({"protocol": lambda: replace(PROTOCOL, clip_frames=6)}, r"clip_frames=6: rollouts are of whole"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, told):
    with pytest.raises(UserError, match=told):
        evaluation(**changes)


def test_a_plan_refuses_a_model_that_rolls_nothing_out():
    check(compose(["eval=[dynamics]"]))  # a predictor alone can, step by step
    with pytest.raises(UserError, match=r"eval\.dynamics: needs rollout, which model .*SMTC does not give"):
        check(compose(["experiment=smtc/synthetic", "eval=[dynamics]"]))


def test_as_many_frames_are_seen_as_the_model_looks_at():
    own = compose(["experiment=slotcontrast/dynamics_synthetic", "model.burn_in=5"])
    assert own["eval"]["dynamics"]["burn_in"] == 5
    assert compose(["eval=[dynamics]"])["eval"]["dynamics"]["burn_in"] == 6
