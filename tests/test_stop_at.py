"""runtime.stop_at: a run is scored at a step of its full schedule, left, and goes on bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vocl.rundir.checkpoint import Checkpoints
from vocl.rundir.results_root import ResultsRoot
from vocl.rundir.run_dir import RunDir
from vocl.stop import EXIT_STOPPED
from vocl.train import main

TINY = ["debug=tiny", "runtime.threads=1", "runtime.progress=false"]


def only_run(root: Path) -> RunDir:
    (run,) = ResultsRoot(root).run_ids()
    return ResultsRoot(root).run(run)


def weights(run: RunDir) -> dict[str, torch.Tensor]:
    found = Checkpoints(run.checkpoints).newest()
    assert found is not None
    return found[1]["model"]


def test_a_run_is_scored_at_a_step_left_and_ends_as_one_that_was_not(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main([*TINY, f"runtime.root={whole}"]) == 0
    in_parts = [*TINY, f"runtime.root={parts}"]
    assert main([*in_parts, "runtime.stop_at=3"]) == EXIT_STOPPED
    said = capfd.readouterr().err
    assert "stopped at step 3 of 6, as runtime.stop_at says; a later runtime.stop_at goes on" in said
    run = only_run(parts)
    assert not run.is_done() and run.newest_step() == 3 and run.is_paused() is True
    assert [(rung.step, list(rung.evals), rung.failed) for rung in run.rungs()] == [(3, ["discovery"], {})]
    assert main([*in_parts, "runtime.stop_at=3"]) == EXIT_STOPPED  # again: it takes no further step
    assert run.newest_step() == 3
    assert main([*in_parts, "runtime.stop_at=5"]) == EXIT_STOPPED
    assert [rung.step for rung in run.rungs()] == [3, 5]
    assert main([*in_parts, "runtime.stop_at=60"]) == 0  # beyond its end
    assert run.id == only_run(whole).id
    first, second = weights(only_run(whole)), weights(run)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert run.result().metrics == only_run(whole).result().metrics


def test_a_run_that_was_killed_before_it_was_scored_is_scored_without_a_step(tmp_path: Path) -> None:
    words = [*TINY, f"runtime.root={tmp_path}", "runtime.stop_at=3"]
    assert main(words) == EXIT_STOPPED
    run = only_run(tmp_path)
    (record,) = (run.path / "rungs").iterdir()
    scored = record.read_text()
    record.unlink()
    assert main(words) == EXIT_STOPPED
    assert record.read_text() == scored
