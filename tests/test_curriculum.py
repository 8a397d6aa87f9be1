"""Stages: where they begin, what they train, what their events see."""

from __future__ import annotations

import functools
import json

import pytest
import torch
from running import run_folder, tiny

from vocl import run
from vocl.curriculum import Curriculum, FeedSpec, Stage
from vocl.data.sampling import WholeVideo
from vocl.errors import UserError
from vocl.rundir.run_dir import RunDir
from vocl.schedule import Constant, Scaled
from vocl.stop import StopFlag

DEFAULTS = {
    "train": "all",
    "terms": "all",
    "active_slots": None,
    "lr": {},
    "weight_decay": {},
    "rate": None,
    "feed": None,
    "enter": [],
}


def stage(length, **changes):
    return functools.partial(Stage, **DEFAULTS | {"length": length} | changes)


class Watch:
    """An event that remembers what was asked of it."""

    def __init__(self):
        self.observed, self.applied = [], []

    def observe(self, step, output):
        self.observed.append(step)

    def apply(self, model, step):
        self.applied.append(step)

    def state_dict(self):
        return {"observed": self.observed, "applied": self.applied}

    def load_state_dict(self, state):
        self.observed, self.applied = list(state["observed"]), list(state["applied"])


def trainer(tmp_path, stages, *overrides):
    config = tiny(tmp_path, *overrides)
    made = run.make_trainer(
        config, RunDir(tmp_path / "x"), torch.device("cpu"), StopFlag(), True, silent=True
    )
    made.curriculum = Curriculum(config.train.steps, stages=stages)
    made.curriculum.check(made.trainable)
    made.torch_optimizer, made.group_names = made._make_groups()
    made.save = lambda step: None
    return made


def test_stages_begin_at_their_shares():
    curriculum = Curriculum(100000, stages={"a": stage(0.1), "b": stage(0.15), "c": stage(0.75)})
    assert curriculum.starts == [0, 10000, 25000]
    assert [curriculum.index(s) for s in (0, 9999, 10000, 24999, 25000, 99999)] == [0, 0, 1, 1, 2, 2]
    short = Curriculum(2, stages={"a": stage(0.1), "b": stage(0.15), "c": stage(0.75, enter=[Watch])})
    assert short.starts == [0, 0, 0] and short.index(0) == 2
    assert len(short.entering(0)) == 1  # a stage too short for a step is still entered


def test_events_observe_until_they_are_applied_once(tmp_path):
    watches = [Watch(), Watch()]
    stages = {
        "a": stage(1 / 3),
        "b": stage(1 / 3, enter=[lambda: watches[0]]),
        "c": stage(1 / 3, enter=[lambda: watches[1]]),
    }
    made = trainer(tmp_path, stages)
    made.fit(range(0, 12))
    assert [w.applied for w in watches] == [[4], [8]]
    assert [w.observed for w in watches] == [list(range(4)), list(range(8))]
    state = made.curriculum.state_dict()
    other = Curriculum(
        12, stages={"a": stage(1 / 3), "b": stage(1 / 3, enter=[Watch]), "c": stage(1 / 3, enter=[Watch])}
    )
    other.load_state_dict(state)
    assert other.events[1][0].applied == [4] and other.events[2][0].observed == list(range(8))


def test_what_a_stage_does_not_train_keeps_its_value_and_its_moments(tmp_path):
    stages = {"a": stage(0.5), "b": stage(0.5, train=["decoder.*"], terms=["feature_mse"])}
    made = trainer(tmp_path, stages)
    made.fit(range(0, 6))
    weights = {n: p.detach().clone() for n, p in made.trainable.items()}
    states = {n: made.torch_optimizer.state[p]["exp_avg"].clone() for n, p in made.trainable.items()}
    made.fit(range(6, 8))
    for name, parameter in made.trainable.items():
        moved = not torch.equal(parameter, weights[name])
        assert moved == name.startswith("decoder."), name
        assert torch.equal(made.torch_optimizer.state[parameter]["exp_avg"], states[name]) != moved, name


def test_rates_and_decay_by_stage(tmp_path):
    ramp = functools.partial(Constant, warmup_steps=4)
    stages = {
        "a": stage(0.5, lr={"decoder.*": 0.1}, weight_decay={"corrector.*": 0.3}),
        "b": stage(0.5, lr={"decoder.*bias": 0.7, "decoder.*": ramp}),  # the first match wins
    }
    made = trainer(
        tmp_path, stages, "optim/schedule=constant", "optim.schedule.warmup_steps=0", "optim.lr=1.0"
    )

    def rates(step):
        made._set_rates(step)
        groups = zip(made.torch_optimizer.param_groups, made.group_names, strict=True)
        return {n: (g["lr"], g["weight_decay"]) for g, names in groups for n in names}

    first, later = rates(0), rates(8)
    decoder = [n for n in first if n.startswith("decoder.")]
    assert {first[n] for n in decoder} == {(0.1, 0.0)}
    assert {first[n] for n in first if n.startswith("corrector.")} == {(1.0, 0.3)}
    expected = {n: 0.7 if n.endswith("bias") else 0.5 for n in decoder}  # 2 of the ramp's 4 steps
    assert {n: later[n][0] for n in decoder} == expected and set(expected.values()) == {0.5, 0.7}
    assert len(made.torch_optimizer.param_groups) <= 4


@pytest.mark.parametrize("key", ["train", "lr", "weight_decay"])
def test_a_glob_that_matches_nothing_is_refused(tmp_path, key):
    value = ["decodre.*"] if key == "train" else {"decodre.*": 0.1}
    with pytest.raises(UserError, match=rf"stages\.b\.{key}: 'decodre\.\*' matches no parameter; .*decoder"):
        trainer(tmp_path, {"a": stage(0.5), "b": stage(0.5, **{key: value})})


def test_a_stage_may_feed_other_clips(tmp_path):
    feed = functools.partial(FeedSpec, clip_frames=3, batch=2, sampling=None)
    made = trainer(tmp_path, {"a": stage(0.5), "b": stage(0.5, feed=feed)})
    shapes = {step: tuple(clip.video.shape[:2]) for step, clip in made.batches(range(4, 8))}
    assert shapes == {4: (4, 2), 5: (4, 2), 6: (2, 3), 7: (2, 3)}
    assert [step for step, _ in made.batches(range(7, 9))] == [7, 8]


def test_a_stage_may_have_a_rate_with_a_peak_and_warm_up_of_its_own(tmp_path):
    peak = functools.partial(Scaled, peak=0.5, schedule=functools.partial(Constant, warmup_steps=2))
    stages = {"a": stage(0.5), "b": stage(0.5, rate=peak, lr={"decoder.*": 0.1})}
    made = trainer(
        tmp_path, stages, "optim/schedule=constant", "optim.schedule.warmup_steps=0", "optim.lr=1.0"
    )
    rates = {}
    for step in (5, 6, 7, 8):
        made._set_rates(step)
        groups = zip(made.torch_optimizer.param_groups, made.group_names, strict=True)
        rates[step] = {names[0].startswith("decoder."): group["lr"] for group, names in groups}
    assert [rates[s][False] for s in (5, 6, 7, 8)] == [1.0, 0.0, 0.25, 0.5]
    assert [rates[s][True] for s in (5, 6, 7, 8)] == pytest.approx([1.0, 0.0, 0.025, 0.05])


def test_a_stage_may_sample_frames_in_its_own_way(tmp_path):
    whole = functools.partial(WholeVideo, start="first")
    feed = functools.partial(FeedSpec, clip_frames=7, batch=2, sampling=whole)
    made = trainer(tmp_path, {"a": stage(0.5), "b": stage(0.5, feed=feed)}, "dataset.reverse=0.0")
    clips = dict(made.batches(range(5, 7)))
    assert clips[5].frames.shape == (4, 2)
    assert clips[6].frames.tolist() == [[0, 1, 2, 3, 0, 1, 2]] * 2  # videos of 4 frames


def test_the_weight_of_a_term_may_follow_a_schedule(tmp_path):
    ramp = "{_target_: vocl.schedule.Ramp, start: 0.25, stop: 0.75, before: 0.0, after: 2.0}"
    config = tiny(tmp_path, f"loss.slot_contrast.weight={ramp}")
    assert run.run(config) == 0
    lines = (run_folder(config) / "metrics.jsonl").read_text().splitlines()
    logged = {line["step"]: line for line in map(json.loads, lines)}
    weights = {step: line["weight.slot_contrast"] for step, line in logged.items()}
    assert weights == pytest.approx({s: min(max((s - 3) / 3, 0.0), 2.0) for s in range(12)})
    for line in logged.values():
        assert line["weighted.slot_contrast"] == pytest.approx(
            line["weight.slot_contrast"] * line["term.slot_contrast"]
        )
        assert line["loss"] == pytest.approx(
            line["weighted.slot_contrast"] + line["weighted.feature_mse"], rel=1e-5
        )
    with pytest.raises(UserError, match=r"loss\.slot_contrast\.weight.*stop.*missing"):
        tiny(tmp_path, "loss.slot_contrast.weight={_target_: vocl.schedule.Ramp, start: 0.25}")
