"""`vocl search` on a real SLURM: trials stop at rungs, and the best of them goes on."""

from __future__ import annotations

import json

import pytest
from sweeps import Sweeps, shared_folder

from launch import cli

pytest.importorskip("optuna")
SEARCH = """
title: Rate
base: {train.steps: 12}
space: {optim.lr: {low: 1.0e-4, high: 1.0e-2, log: true}}
metric: video_fg_ari
direction: maximize
split: dev
seeds: [0]
trials: 3
at_once: 2
rungs: [4]
reduction_factor: 3
sampler: {_target_: optuna.samplers.RandomSampler}
sampler_seed: 1
"""


@pytest.mark.slow
def test_a_search_of_passes_trains_no_run_twice_and_takes_one_to_its_end(cluster, capsys) -> None:
    with shared_folder() as folder:
        own = Sweeps(cluster, folder)
        path = own.project / "conf" / "search" / "rate.yaml"
        path.parent.mkdir()
        path.write_text(SEARCH)
        words = [word for word in own.words() if not word.startswith("train.steps=")]
        gate = own.gate("gate")

        def called(*more: str) -> str:
            capsys.readouterr()
            with own.environment():
                assert cli.main(["search", "rate", f"runtime.root='{own.root}'", *more]) == 0
            return capsys.readouterr().out

        called(*words, f"loss.probe.folder={gate}")
        own.arrived(gate)
        called()  # of those on their way none is begun anew
        runs = sorted((own.root / "runs").iterdir())
        assert len(runs) == 2 and all(len(list(run.glob("jobs/*-start.json"))) <= 1 for run in runs)
        (gate / "go").touch()
        said: list[str] = []
        own.wait(lambda: said.append(called()) or "3 of 3 trials: 1 done, 2 pruned" in said[-1])
        board = called("--table")
        assert "best: trial" in board and "on dev after 12 steps" in board
        runs = sorted((own.root / "runs").iterdir())
        assert len(runs) == 3
        for run in runs:
            starts = [json.loads(p.read_text())["step"] for p in sorted(run.glob("events/*-start.json"))]
            assert starts == ([0, 4] if (run / "result.json").exists() else [0])
        assert sum((run / "result.json").exists() for run in runs) == 1
