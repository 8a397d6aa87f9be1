"""Whole runs of SMTC: stopped where the backbone begins to train and resumed, and on two processes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from running import (
    final,
    result,
    rooted,
    run_folder,
    same,
    steps_logged,
    torn_at,
    two_ranks_equal_one,
)

from vocl import run
from vocl.config.compose import composed
from vocl.rundir.checkpoint import Checkpoints

RUN = (
    "debug=tiny",
    "train.steps=10",
    "train.batch=4",
    "model.num_semantics=4",
    "model.num_instances=2",
    "model.attention.threshold=0.0",
    "model.valid.binarise=0.2",
    "optim.lr=0.01",
    "eval=[discovery]",
    "eval.discovery.max_videos=1",
    "dataset.source.num_frames=6",
    "runtime.checkpoint_every=4",
    "runtime.threads=1",
    "runtime.device=cpu",
    "runtime.progress=false",
)
SGD = {  # Adam makes steps of rounding errors
    "_target_": "vocl.optim.SGD",
    "lr": 0.001,
    "momentum": 0.0,
    "weight_decay": 0.0,
    "schedule": {"_target_": "vocl.schedule.Constant", "warmup_steps": 0},
}
BOUNDARY = 3  # of 10 steps the first that trains the backbone


def config(root, *overrides: str, experiment: str = "smtc/ytvos"):
    out = composed([f"experiment={experiment}", *RUN, *overrides])
    return rooted(root, out)


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["smtc/ytvos", "smtc/ytvos_paper"])
def test_a_run_that_was_stopped_ends_as_one_that_was_not(tmp_path, monkeypatch, experiment) -> None:
    """Stopped before, at and after the boundary: the state that is saved at it is of the first stage."""
    whole = config(tmp_path / "whole", experiment=experiment)
    torn = config(tmp_path / "torn", experiment=experiment)
    assert run.run(whole) == 0
    torn_at(torn, monkeypatch, BOUNDARY - 2, BOUNDARY - 1, BOUNDARY, BOUNDARY + 3)
    same(final(whole), final(torn))
    assert result(whole)["metrics"] == result(torn)["metrics"]
    assert steps_logged(torn) == list(range(10))


def test_what_moves_and_what_stays(tmp_path, monkeypatch) -> None:
    """The backbone from the second stage on, the teacher's never; the teacher is saved."""
    made = config(tmp_path, "runtime.checkpoint_every=1", "runtime.checkpoint_tenths=true")
    assert run.run(made) == 0
    checkpoints = Checkpoints(run_folder(made) / "checkpoints")
    states = {}
    for saved in checkpoints.list():
        _, state = checkpoints.newest(saved.step)
        states[saved.step] = checkpoints.weights(state)
    name, other = "backbone.vit.blocks.0.attn.qkv.weight", "grouping.attention.to_q.weight"
    first, last = states[1], states[10]
    assert torch.equal(states[BOUNDARY][name], first[name]) and not torch.equal(last[name], first[name])
    assert not torch.equal(states[BOUNDARY][other], first[other])
    frozen = [n for n in last if n.startswith("teacher.backbone.")]  # copies of what the student began with
    assert frozen and all(torch.equal(last[n], first[n.removeprefix("teacher.")]) for n in frozen)
    moved = f"teacher.{other}"
    assert not torch.equal(last[moved], first[moved]) and not torch.equal(last[moved], last[other])


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["smtc/ytvos", "smtc/ytvos_paper"])
def test_two_ranks_equal_one(tmp_path, experiment) -> None:
    """Stochastic depth, noise and the number of valid instances are those of the whole batch."""
    one, two = (config(tmp_path / name, "train.clip=1.0", experiment=experiment) for name in ("one", "two"))
    one, two = (replace(each, optim=SGD) for each in (one, two))
    two_ranks_equal_one(one, two, tmp_path / "log")
    logs = [
        [json.loads(line) for line in (run_folder(c) / "metrics.jsonl").read_text().splitlines()]
        for c in (one, two)
    ]
    for a, b in zip(*logs, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
    assert any(value for line in logs[0] for name, value in line.items() if name.startswith("term.instance"))
