"""`vocl submit X --first` trains the first run of a selection in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from launch.cli import main
from launch.selection.plan import select
from launch.slurm import client
from vocl.rundir.results_root import ResultsRoot


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
