"""A results folder that an earlier version wrote is read, gone on with and scored by today's.

tests/early/results.tar.xz: `vocl submit early cluster=local cluster.slots=1` of commit d95a06a, stopped in
its fourth run, with its `vocl table`; older checkpoints left out, the names of machine and user replaced.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import pickle
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from running import run_folder

import vocl
from launch.agent import Agent
from launch.cli import main
from vocl import run
from vocl.config.run_config import RunConfig
from vocl.rundir.run_dir import RunDir

EARLY = Path(__file__).resolve().parents[1] / "early"
PLAIN, CONTRAST, BROKEN, LONG, LATER = "9a80605677", "3427b04b73", "d941310cf5", "435fce6cf8", "5865fae3f9"
STATES = {PLAIN: "done", CONTRAST: "done", BROKEN: "failed", LONG: "interrupted", LATER: "absent"}


@pytest.fixture
def project(tmp_path: Path) -> str:
    folder = tmp_path / "project" / "conf" / "ablation"
    folder.mkdir(parents=True)
    shutil.copy(EARLY / "early.yaml", folder)
    return f"project={tmp_path}/project"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    torch.set_num_threads(1)
    with tarfile.open(EARLY / "results.tar.xz") as archive:
        archive.extractall(tmp_path / "results", filter="data")
    return tmp_path / "results"


def config_of(root: Path, run_id: str) -> RunConfig:
    found = RunDir(root / "runs" / run_id).config()
    return replace(found, runtime=replace(found.runtime, root=str(root)))


def test_states_and_ids_are_those_of_then(root: Path, project: str, capsys) -> None:
    assert vocl.runs("early", root=root)["state"].to_dict() == STATES
    assert main(["plan", "early", project, f"runtime.root={root}"]) == 0
    planned = capsys.readouterr().out
    assert all(name in planned for name in STATES) and "5 runs: " in planned
    assert main(["status", "early", f"runtime.root={root}"]) == 0
    shown = capsys.readouterr().out
    assert "stopped at step 22 of 90" in shown and "NonFinite: step 2" in shown


def test_the_table_has_the_numbers_of_then(root: Path, project: str) -> None:
    path = root / "tables" / "early" / "table.csv"
    before = list(csv.DictReader(path.open()))
    assert main(["table", "early", project, f"runtime.root={root}"]) == 0
    after = list(csv.DictReader(path.open()))
    found = [{(line["row"], line["metric"]): line for line in lines} for lines in (before, after)]
    assert found[0].keys() == found[1].keys()
    for place, line in found[0].items():
        assert {key: found[1][place][key] for key in line} == line


def test_scoring_a_run_again_gives_its_scores_of_then(root: Path) -> None:
    path = root / "runs" / PLAIN / "result.json"
    before = json.loads(path.read_text())["metrics"]
    assert main(["eval", PLAIN, "--again", f"runtime.root={root}"]) == 0
    assert json.loads(path.read_text())["metrics"] == pytest.approx(before, abs=1e-3)


def trained(root: Path) -> torch.Tensor:
    """All weights of the run that was stopped, in one vector."""
    weights = vocl.load(LONG, root=str(root)).model.state_dict()
    return torch.cat([weight.double().flatten() for _, weight in sorted(weights.items())])


@pytest.mark.slow
def test_runs_go_on(root: Path, project: str, tmp_path: Path, capsys) -> None:
    """A stopped one as a fresh one would, an absent one begins, a failed one fails again when asked to."""
    fresh = config_of(root, LONG)
    fresh = replace(fresh, runtime=replace(fresh.runtime, root=f"{tmp_path}/fresh"))
    assert run.run(fresh) == 0 and run_folder(fresh).name == LONG
    stopped = trained(root)
    words = [project, "cluster=local", "cluster.slots=1", f"runtime.root={root}"]
    assert main(["submit", "early", *words]) == 0
    ours, theirs = (trained(each) for each in (root, tmp_path / "fresh"))
    # its first steps were another processor's, whose sums differ in the last bits: Adam makes much of that
    assert (ours - theirs).norm() < 0.2 * (theirs - stopped).norm()
    assert main(["retry", BROKEN, *words[1:]]) == 1
    assert f"{root}/runs/{BROKEN}/events/0002-failed.json" in capsys.readouterr().err
    assert vocl.runs("early", root=root)["state"].to_dict() == STATES | {LONG: "done", LATER: "done"}


def test_it_moves(root: Path, tmp_path: Path, capsys) -> None:
    assert main(["export", CONTRAST, f"{tmp_path}/out", f"runtime.root={root}"]) == 0
    assert vocl.load(f"{tmp_path}/out").checkpoint.step == 6
    assert main(["pull", str(root), f"runtime.root={tmp_path}/other"]) == 0
    assert vocl.runs(root=tmp_path / "other")["state"].to_dict() == STATES
    assert main(["gc", f"runtime.root={root}"]) == 0
    assert not [name for name in STATES if f"runs/{name} " in capsys.readouterr().out]


def test_jobs_name_modules_that_every_snapshot_has() -> None:
    """A run that is queued again imports the code of its first submission: of any version."""
    assert b"claunch.agent\nAgent\n" in pickle.dumps(Agent("root", "token"), protocol=0)
    assert importlib.util.find_spec("launch.ports")
