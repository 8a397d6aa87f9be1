"""Whole runs of SOLV: stopped and resumed, and on two processes."""

from __future__ import annotations

from running import (
    SGD,
    TINY,
    final,
    result,
    rooted,
    same,
    torn_at,
    two_ranks_equal_one,
)

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
    torn_at(torn, monkeypatch, 2, 7)
    same(final(whole), final(torn))
    assert result(whole)["metrics"] == result(torn)["metrics"]


def test_two_ranks_equal_one(tmp_path) -> None:
    """With a lower bound of the scale: without, gradients of 1e7 at first make rounding visible."""
    settings = (*SGD, "model.spatial.min_scale=0.2")
    one, two = config(tmp_path / "one", *settings), config(tmp_path / "two", *settings)
    two_ranks_equal_one(one, two, tmp_path / "log")
