"""The number of processes is no hyperparameter."""

from __future__ import annotations

import json
import os
import signal

import pytest
import torch
from running import SGD, at_step, final, on_ranks, result, run_folder, tiny, two_ranks_equal_one

from vocl import run


def close(a, b):
    for name, tensor in a["model"].items():
        torch.testing.assert_close(tensor, b["model"][name], rtol=0, atol=1e-6, msg=name)


@pytest.mark.parametrize("group", ["null", "1", pytest.param("4", marks=pytest.mark.slow)])
def test_two_ranks_equal_one(tmp_path, group):
    settings = (*SGD, f"loss.slot_contrast.group={group}", "dataset.source.num_validation=3")
    one, two = tiny(tmp_path / "one", *settings), tiny(tmp_path / "two", *settings)
    two_ranks_equal_one(one, two, tmp_path / "log")
    ours, theirs = result(two)["evals"]["discovery"], result(one)["evals"]["discovery"]
    assert ours["num_videos"] == 3
    assert ours["metrics"] == pytest.approx(theirs["metrics"], abs=1e-3)
    logs = [
        [json.loads(line) for line in (run_folder(c) / "metrics.jsonl").read_text().splitlines()]
        for c in (one, two)
    ]
    for a, b in zip(*logs, strict=True):
        assert [a["loss"], a["grad_norm"]] == pytest.approx([b["loss"], b["grad_norm"]], rel=1e-5)
    names = sorted(p.name for p in (run_folder(two) / "events").iterdir())
    assert names == ["0001-done.json", "0001-start.json"]


def test_a_stop_of_one_rank_is_agreed_and_the_count_may_change(tmp_path, monkeypatch):
    one, two = tiny(tmp_path / "one", *SGD), tiny(tmp_path / "two", *SGD)
    assert run.run(one) == 0

    def stopped_on_rank_1(rank):
        if rank == 1:
            at_step(monkeypatch, 5, lambda: os.kill(os.getpid(), signal.SIGTERM))
        return run.run(two)

    log = tmp_path / "log"
    assert on_ranks(2, stopped_on_rank_1, log) == [75, 75], log.read_text()
    assert final(two)["step"] == 6
    assert log.read_text().count("the same command goes on") == 1
    assert run.run(two) == 0
    close(final(one), final(two))
    events = run_folder(two) / "events"
    assert [json.loads((events / f"000{i}-start.json").read_text())["world"] for i in (1, 2)] == [2, 1]


def test_a_step_that_is_not_finite_on_one_rank_is_refused_by_all(tmp_path, monkeypatch):
    config = tiny(tmp_path, *SGD)
    forward = run.Trainer.forward

    def spoilt(self, step, clip):
        output, total, terms = forward(self, step, clip)
        return output, total * float("inf") if step == 3 else total, terms

    def function(rank):
        if rank == 1:
            monkeypatch.setattr(run.Trainer, "forward", spoilt)
        return run.run(config)

    log = tmp_path / "log"
    assert on_ranks(2, function, log) == [1, 1], log.read_text()
    names = sorted(p.name for p in (run_folder(config) / "events").iterdir())
    assert names == ["0001-failed.json", "0001-start.json"]
    record = json.loads((run_folder(config) / "events" / "0001-failed.json").read_text())["non_finite"]
    assert record["step"] == 3 and len(record["names"]) == 4  # the clips of both ranks


def test_what_one_rank_is_refused_all_are(tmp_path):
    (tmp_path / "file").write_text("")
    config = tiny(tmp_path / "file" / "below")
    log = tmp_path / "log"

    def function(rank):
        from vocl.errors import UserError

        try:
            return run.run(config)
        except UserError:
            return 2

    assert on_ranks(2, function, log) == [2, 2], log.read_text()
