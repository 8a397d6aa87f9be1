"""Steps whose numbers are read during the next one, as on a GPU: the same training, nothing worse applied."""

from __future__ import annotations

import json
import signal

import pytest
import torch
from running import SGD, on_ranks, tiny

from vocl import run
from vocl.data.feed import Feed
from vocl.rundir.checkpoint import Checkpoints
from vocl.rundir.of_config import run_dir_of
from vocl.stop import StopFlag

LATE = "runtime.late_checks=true"


def final(config):
    found = Checkpoints(run_dir_of(config).checkpoints).newest()
    return found[0].step, found[1]["model"]


def reports(config):
    return [json.loads(line) for line in run_dir_of(config).metrics_path.read_text().splitlines()]


@pytest.mark.parametrize("every", [1, 4])
def test_it_trains_to_the_same_weights_and_reports(tmp_path, every):
    configs = [
        tiny(tmp_path / name, *SGD, "train.clip=0.05", *more, f"runtime.log_every={every}")
        for name, more in (("plain", ()), ("late", (LATE,)))
    ]
    assert [run.run(config) for config in configs] == [0, 0]
    plain, late = map(final, configs)
    assert plain[0] == late[0] == 12
    for name, weight in plain[1].items():
        torch.testing.assert_close(late[1][name], weight, rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(*map(reports, configs), strict=True):
        assert ours["step"] == theirs["step"]
        for key in ("loss", "grad_norm", "clipped_share", "lr"):
            assert ours[key] == pytest.approx(theirs[key], rel=1e-4)


@pytest.mark.parametrize("spoilt_step", [3, 5, 11])  # read late; beyond a checkpoint's step; the last one
@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_what_is_not_finite_is_not_applied_and_ends_the_run(tmp_path, monkeypatch, spoilt_step, what):
    config = tiny(tmp_path, LATE, "runtime.log_every=50", "runtime.checkpoint_every=4")
    forward, seen = run.Trainer.forward, []

    def spoilt(self, step, clip):
        output, total, terms = forward(self, step, clip)
        seen.append(all(bool(p.isfinite().all()) for p in self.trainable.values()))
        if step == spoilt_step and what == "loss":
            total = total * float("nan")
        if step == spoilt_step and what == "gradient":
            total.register_hook(lambda gradient: gradient * float("inf"))
        return output, total, terms

    monkeypatch.setattr(run.Trainer, "forward", spoilt)
    assert run.run(config) == 1
    record = json.loads((run_dir_of(config).events / "0001-failed.json").read_text())["non_finite"]
    assert record["step"] == spoilt_step
    assert record["names"] == list(Feed.batch(trainer(config).feed(0), spoilt_step).names)
    assert not all(abs(float(norm)) < float("inf") for norm in record["gradient_norms"].values())
    assert all(seen)  # the step that follows, if any, has finite weights
    steps = [found.step for found in Checkpoints(run_dir_of(config).checkpoints).list()]
    assert max(steps, default=0) <= spoilt_step


def trainer(config):
    return run.make_trainer(
        config, run_dir_of(config), torch.device("cpu"), StopFlag(), fresh=True, silent=True
    )


def test_it_stops_when_asked_and_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    whole, config = tiny(tmp_path / "whole", LATE), tiny(tmp_path / "cut", LATE, "runtime.log_every=50")
    assert run.run(whole) == 0
    launch = run.Trainer.launch

    def asks(self, step, clip):
        if step == 2:
            self.stop.signal = signal.SIGTERM
        return launch(self, step, clip)

    with monkeypatch.context() as patch:
        patch.setattr(run.Trainer, "launch", asks)
        assert run.run(config) == 75
    assert final(config)[0] == 4  # the wish of step 2 is read during step 3
    assert run.run(config) == 0
    for name, weight in final(whole)[1].items():
        assert torch.equal(final(config)[1][name], weight)


def test_two_ranks_take_the_steps_of_one(tmp_path):
    one, two = tiny(tmp_path / "one", *SGD, LATE), tiny(tmp_path / "two", *SGD, LATE)
    assert run.run(one) == 0
    log = tmp_path / "log"
    assert on_ranks(2, lambda rank: run.run(two), log) == [0, 0], log.read_text()
    for name, weight in final(one)[1].items():
        torch.testing.assert_close(final(two)[1][name], weight, rtol=1e-5, atol=1e-6)
