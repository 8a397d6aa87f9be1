"""`vocl submit X --first` trains the first run of a selection in this process."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from launch.cli import main
from launch.selection.plan import select
from launch.slurm import client
from vocl.config.run_config import RunConfig
from vocl.rundir.results_root import ResultsRoot
from vocl.stop import EXIT_STOPPED, StopFlag


def test_the_first_run_trains_here_and_the_others_are_left(
    declare: Callable[..., str],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(*words: str) -> str:
        raise AssertionError(words)

    monkeypatch.setattr(client, "ask", never)
    root = ResultsRoot(tmp_path / "results")
    words = ["trio", declare(), f"runtime.root={root}", "debug=tiny", "runtime.threads=1", "cluster=slurm"]
    assert main(["submit", *words, "--first"]) == 0
    first, *others = [spec.id for spec in select(words).runs]
    said = capfd.readouterr().out
    assert f"the first of 6 runs, in this process: {first} (none, all, seed 0)" in said
    assert root.run(first).is_done()
    assert not any(root.run(run).path.exists() for run in others)
    assert not root.ledger.exists()
    assert main(["submit", *words, "--first"]) == 0  # done: prints the scores
    assert "video_fg_ari" in capfd.readouterr().out


def test_the_first_run_stops_as_a_training_does_and_is_drawn_for_a_tracker(
    declare: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(config: RunConfig, stop: StopFlag, draw: object = None) -> int:
        assert draw is not None
        os.kill(os.getpid(), signal.SIGTERM)
        return EXIT_STOPPED if stop else 1

    monkeypatch.setattr("vocl.run.run", asked)
    words = ["trio", declare(), f"runtime.root={tmp_path}", "debug=tiny", "runtime.tracking=offline"]
    assert main(["submit", *words, "--first"]) == EXIT_STOPPED
