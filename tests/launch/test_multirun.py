"""`python -m vocl.train -m`: the same core as `vocl submit`, with and without a sweeper."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from launch.cli import main as vocl
from launch.selection.plan import select
from vocl import train

TINY = ["debug=tiny", "seed=0,1", "cluster=local"]


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Hydra's multirun sets up logging for the whole process, which in life ends with it."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    root.setLevel(level)
    root.handlers[:] = handlers


@pytest.mark.slow
def test_a_sweeper_and_plain_multirun_and_submit_are_one(tmp_path: Path, capsys) -> None:
    root = f"runtime.root={tmp_path}/results"
    assert train.main(["-m", "hydra/sweeper=basic", *TINY, root]) == 0
    results = [tmp_path / "results/runs" / spec.id / "result.json" for spec in select([*TINY, root]).specs]
    assert [json.loads(path.read_text())["attempts"] for path in results] == [1, 1]
    capsys.readouterr()
    assert train.main(["-m", *TINY, root]) == 0
    assert "2 done already, 0 to do" in capsys.readouterr().out
    assert vocl(["submit", *TINY, root]) == 0
    assert "2 done already, 0 to do" in capsys.readouterr().out
    assert train.main(["-m", "hydra/sweeper=basic", *TINY, root, "hydra.launcher.metric=nope"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "hydra.launcher.metric=nope: not scored, choose from" in error


@pytest.mark.parametrize("sweeper", [[], ["hydra/sweeper=basic"]])
@pytest.mark.parametrize("mistake", ["model.num_slots=0,3", "model.nope=1", "dataset=nope"])
def test_mistakes_are_one_line(sweeper, mistake, tmp_path: Path, capsys) -> None:
    root = tmp_path / "results"
    assert train.main(["-m", *sweeper, *TINY, mistake, f"runtime.root={root}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not root.exists()
