"""Whole runs of SOLV: stopped and resumed, and on two processes."""

from __future__ import annotations

import signal

import torch
from running import TINY, at_step, final, on_ranks, result, rooted, same, send

from vocl import run
from vocl.config.compose import composed

RUN = (
    "experiment=solv/synthetic",
    "dataset.source.num_frames=5",
    "dataset.clip_frames=3",
    "model.num_slots=4",
    "model.spatial.mlp_dim=8",
    "model.temporal.ffn_dim=8",
    "model.temporal.num_heads=2",
    "model.predictor=null",
)


def config(root, *overrides: str):
    """A run of 12 steps; the helper's overrides of parts that this model lacks are left out."""
    lacking = ("model.predictor", "model.corrector")
    given = [o for o in (*TINY, *RUN, *overrides) if not o.startswith(lacking)]
    out = composed(given)
    return rooted(root, out)


def test_a_run_that_was_stopped_ends_as_one_that_was_not(tmp_path, monkeypatch) -> None:
    whole, torn = config(tmp_path / "whole"), config(tmp_path / "torn")
    assert run.run(whole) == 0
    for step in (2, 7):
        with monkeypatch.context() as patch:
            at_step(patch, step, send(signal.SIGTERM))
            assert run.run(torn) == 75
    assert run.run(torn) == 0
    same(final(whole), final(torn))
    assert result(whole)["metrics"] == result(torn)["metrics"]


def test_two_ranks_equal_one(tmp_path) -> None:
    """With a lower bound of the scale: without, gradients of 1e7 at first make rounding visible."""
    sgd = ("optim=sgd", "optim/schedule=constant", "optim.schedule.warmup_steps=0", "optim.lr=0.05")
    sgd = (*sgd, "train.clip=0.5", "model.spatial.min_scale=0.2")
    one, two = config(tmp_path / "one", *sgd), config(tmp_path / "two", *sgd)
    assert run.run(one) == 0
    log = tmp_path / "log"
    assert on_ranks(2, lambda rank: run.run(two), log) == [0, 0], log.read_text()
    theirs = final(two)["model"]
    for name, tensor in final(one)["model"].items():
        torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=1e-6, msg=name)
