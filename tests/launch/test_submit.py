from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

import launch.submission.local
from launch.cli import main
from launch.commands.submit import submit_one
from launch.selection.plan import select
from launch.slurm.client import announced
from vocl.config.check import check
from vocl.loading import load

REPOSITORY = Path(__file__).resolve().parents[2]

# stands in for `python -m vocl.train --config`: writes a record, or fails for one row
TRAINER = """
import json, os, sys
from pathlib import Path
folder = Path(sys.argv[1]).parent
text = Path(sys.argv[1]).read_text()
with open(folder / "starts", "a") as starts:
    print(os.environ["OMP_NUM_THREADS"], os.getcwd(), file=starts)
if "slot_contrast" not in text and (folder.parent.parent / "break").exists():
    print("failed: ValueError: it broke", file=sys.stderr)
    sys.exit(1)
result = {"run_id": folder.name, "metrics": {"video_mbo": 0.5}, "evals": {}}
(folder / "result.json").write_text(json.dumps(result))
"""


@pytest.fixture
def fake_trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "trainer.py"
    script.write_text(TRAINER)
    monkeypatch.setattr(launch.submission.local, "TRAIN", (sys.executable, "-S", str(script)))


@pytest.fixture
def arguments(declare: Callable[..., str], tmp_path: Path) -> list[str]:
    return ["trio", declare(), f"runtime.root={tmp_path}/results", "cluster=local"]


def test_every_run_is_trained_once_from_a_frozen_config(
    fake_trainer: None, arguments: list[str], tmp_path: Path
) -> None:
    assert main(["submit", *arguments]) == 0
    assert main(["submit", *arguments]) == 0
    for spec in select(arguments).specs:
        folder = tmp_path / "results" / "runs" / spec.id
        assert len((folder / "starts").read_text().splitlines()) == 1
        saved = yaml.safe_load((folder / "config.yaml").read_text())
        assert check(saved).run_id == spec.id
        assert saved["cluster"]["kind"] == "here"
        assert saved["runtime"]["progress"] is False
        assert saved["runtime"]["threads"] == max(1, len(os.sched_getaffinity(0)) // 2)
        assert (folder / "starts").read_text().split()[0] == str(saved["runtime"]["threads"])


def test_by_name_links_lead_to_the_runs(fake_trainer: None, arguments: list[str], tmp_path: Path) -> None:
    main(["submit", *arguments])
    moved = (tmp_path / "results").rename(tmp_path / "moved")
    for spec in select(arguments).specs:
        link = moved / "by-name" / "trio" / spec.row / "all" / f"s{spec.seed}"
        assert link.resolve() == (moved / "runs" / spec.id).resolve()


def test_failures_are_listed_and_tried_again(
    fake_trainer, arguments: list[str], tmp_path: Path, capsys
) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "break").touch()
    assert main(["submit", *arguments]) == 1
    error = capsys.readouterr().err
    bad, _, *good = select(arguments).specs
    log = tmp_path / "results" / "runs" / bad.id / "log.txt"
    assert f"failed: {bad.id} (none, all, seed 0): failed: ValueError: it broke; see {log}" in error
    assert all((tmp_path / "results" / "runs" / spec.id / "result.json").exists() for spec in good)
    (tmp_path / "results" / "break").unlink()
    assert main(["submit", *arguments]) == 0


def test_one_run(fake_trainer: None, tmp_path: Path, capsys) -> None:
    (spec,) = select([f"runtime.root={tmp_path}/results", "seed=3"]).specs
    assert submit_one(spec.config) == 0
    out = capsys.readouterr().out
    assert "video_mbo 0.5" in out
    assert f"{tmp_path}/results/runs/{spec.id}/result.json" in out


def test_one_run_that_fails(fake_trainer: None, tmp_path: Path, capsys) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "break").touch()
    (spec,) = select([f"runtime.root={tmp_path}/results", "loss=[feature_mse]"]).specs
    assert submit_one(spec.config) == 1
    assert "it broke" in capsys.readouterr().err


def test_a_results_folder_that_cannot_be_written(arguments: list[str], tmp_path: Path, capsys) -> None:
    (tmp_path / "file").touch()
    assert main(["submit", *arguments, f"runtime.root={tmp_path}/file/below"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"runtime.root={tmp_path}/file/below: cannot write there" in error


def _tiny(declare: Callable[..., str], root: Path, *extra: str) -> list[str]:
    text = "rows: {none: {loss: [feature_mse]}, batch: {}}\nseeds: [0]\nmetrics: [video_mbo]"
    return ["trio", declare(text), "debug=tiny", "cluster=local", f"runtime.root={root}", *extra]


@pytest.mark.slow
def test_real_runs_stop_on_ctrl_c_and_go_on_to_the_weights_of_undisturbed_ones(
    declare, tmp_path: Path
) -> None:
    """Many steps so that there is a middle; `experiment` values give way to those of debug=tiny."""
    disturbed = _tiny(declare, tmp_path / "a", "train.steps=400")
    command = [sys.executable, "-m", "launch.cli", "submit"]
    process = subprocess.Popen(
        [*command, *disturbed], cwd=REPOSITORY, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    logs = [tmp_path / "a" / "runs" / spec.id / "metrics.jsonl" for spec in select(disturbed).specs]
    until = time.time() + 90
    while not all(log.exists() for log in logs) and time.time() < until:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 75, error
    assert f"to go on: vocl submit {shlex.join(disturbed)}" in error
    results = [log.with_name("result.json") for log in logs]
    assert not any(result.exists() for result in results)
    assert subprocess.run([*command, *disturbed], cwd=REPOSITORY).returncode == 0
    undisturbed = _tiny(declare, tmp_path / "b", "train.steps=400")
    assert subprocess.run([*command, *undisturbed], cwd=REPOSITORY).returncode == 0
    for result in results:
        found = json.loads(result.read_text())
        twin = json.loads((tmp_path / "b" / "runs" / result.parent.name / "result.json").read_text())
        assert found["attempts"] == 2
        assert found["metrics"] == twin["metrics"]
        weights, undisturbed_weights = (
            load(result.parent.name, str(tmp_path / name)).model.state_dict() for name in ("a", "b")
        )
        assert all(torch.equal(weights[name], undisturbed_weights[name]) for name in weights)
        assert main(["table", *disturbed]) == 0


@pytest.mark.slow
def test_pictures_of_real_runs(declare, tmp_path: Path, capsys) -> None:
    arguments = _tiny(declare, tmp_path / "a")
    assert main(["submit", *arguments]) == 0
    assert main(["table", *arguments, "--pictures"]) == 0
    out = capsys.readouterr().out
    for row in ("none", "batch"):
        path = tmp_path / "a" / "tables" / "trio" / f"{row}.png"
        assert path.stat().st_size > 1000
        assert f"picture of {row}, all, seed 0: {path}" in out


@pytest.mark.slow
def test_a_real_run_that_crashes_leaves_the_other_alone(declare, tmp_path: Path, capfd) -> None:
    arguments = _tiny(declare, tmp_path / "a")
    bad, good = select(arguments).specs
    folder = tmp_path / "a" / "runs" / bad.id
    folder.mkdir(parents=True)
    (folder / "eval").touch()  # a file where the evaluation wants a folder
    assert main(["submit", *arguments]) == 1
    assert (tmp_path / "a" / "runs" / good.id / "result.json").exists()
    assert f"failed: {bad.id} (none, all, seed 0)" in capfd.readouterr().err


def test_seeds_submitted_apart_are_one_table(
    fake_trainer: None, arguments: list[str], tmp_path: Path, capsys
):
    for seed in (0, 1):
        assert main(["submit", *arguments, f"seed={seed}"]) == 0
    capsys.readouterr()
    assert main(["status", "trio", f"runtime.root={tmp_path}/results"]) == 0
    assert "6 runs: 6 done" in capsys.readouterr().out


def test_a_renamed_row_leaves_the_table(fake_trainer: None, declare, tmp_path: Path, capsys) -> None:
    text = "rows: {none: {loss: [feature_mse]}, batch: {}}\nseeds: [0]\nmetrics: [video_mbo]"
    place = f"runtime.root={tmp_path}/results"
    for name in ("none", "nothing"):
        project = declare(text.replace("none", name))
        assert main(["submit", "trio", project, place, "cluster=local"]) == 0
    known = json.loads((tmp_path / "results/by-name/trio/selection.json").read_text())
    assert sorted(run["row"] for run in known["runs"]) == ["batch", "nothing"]


@pytest.mark.parametrize(("spent_s", "said"), [(0.0, ""), (0.5, "waiting for SLURM to answer\n")])
def test_waiting_for_slurm_is_said(spent_s: float, said: str, capsys) -> None:
    with announced(after_s=0.2):
        time.sleep(spent_s)
    assert capsys.readouterr().err == said
