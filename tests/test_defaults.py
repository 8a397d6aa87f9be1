"""The defaults file: what need not be typed, below what is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from launch.cli import main as vocl
from launch.selection.plan import select
from vocl import train
from vocl.command_line import defaults

TINY = "debug=tiny"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder, and a config folder of the user beside it."""
    monkeypatch.delenv("VOCL_DEFAULTS")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


def composed(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[dict, str]:
    assert train.main([*words, TINY, "--cfg", "job"]) == 0
    out, error = capsys.readouterr()
    return yaml.safe_load(out), error


def test_without_a_file_nothing_is_said(capsys) -> None:
    config, error = composed(capsys)
    assert config["runtime"]["root"] == "results" and error == ""


def test_they_stand_below_what_is_typed(place: Path, capsys) -> None:
    (place / "vocl.yaml").write_text("root: /a/b\ndata: /my data\nweights: w\nruntime.threads: 3\n")
    config, error = composed(capsys, "runtime.data_root=typed")
    runtime = config["runtime"]
    found = [runtime[key] for key in ("root", "data_root", "weights_root", "threads")]
    assert found == ["/a/b", "typed", "w", 3]
    assert error == (
        'defaults from vocl.yaml: runtime.root=/a/b runtime.weights_root="w" runtime.threads=3\n'
    )


def test_the_file_of_the_working_folder_goes_before_the_users(place: Path, capsys) -> None:
    own = place.parent / "config" / "vocl" / "defaults.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("root: of_user\n")
    assert composed(capsys)[0]["runtime"]["root"] == "of_user"
    (place / "vocl.yaml").write_text("data: here\n")
    assert composed(capsys)[0]["runtime"]["root"] == "results"


def test_a_variable_names_another_file_or_none(place: Path, capsys, monkeypatch) -> None:
    (place / "vocl.yaml").write_text("root: here\n")
    (place / "other.yaml").write_text("root: other\n")
    monkeypatch.setenv("VOCL_DEFAULTS", "other.yaml")
    assert composed(capsys)[0]["runtime"]["root"] == "other"
    monkeypatch.setenv("VOCL_DEFAULTS", "")
    assert composed(capsys)[0]["runtime"]["root"] == "results"


def test_verbs_that_look_at_runs_take_the_root(place: Path, capsys) -> None:
    (place / "vocl.yaml").write_text("root: mine\ncluster: slurm\ndata: d\n")
    (place / "mine" / "runs" / "0123456789").mkdir(parents=True)
    assert vocl(["status"]) == 0
    out, error = capsys.readouterr()
    assert "0123456789" in out and error == 'defaults from vocl.yaml: runtime.root="mine"\n'
    assert vocl(["ls"]) == 0 and vocl(["why"]) == 0 and vocl(["gc"]) == 0
    capsys.readouterr()
    assert vocl(["logs", "0123"]) == 2
    assert "mine/runs/0123456789/log.txt" in capsys.readouterr().err


def test_a_project_and_a_cluster_are_as_if_typed(place: Path, capsys) -> None:
    conf = place / "own" / "conf"
    (conf / "ablation").mkdir(parents=True)
    (conf / "ablation" / "duo.yaml").write_text("rows: {a: {}}\nseeds: [0, 1]\nmetrics: [video_mbo]\n")
    (place / "vocl.yaml").write_text("project: own\ncluster: local\ncluster.slots: 3\nroot: r\n")
    assert vocl(["plan", "duo"]) == 0
    out = capsys.readouterr().out
    typed = select(["duo", "project=own", "cluster=local", "runtime.root=r"])
    assert all(spec.id in out for spec in typed.specs)
    found = defaults.beside(["duo"], defaults.PLACED, say=False)
    (spec, *_) = select([*found, "duo"]).specs
    assert spec.config.cluster.kind == "local" and spec.config.cluster.slots == 3
    found = defaults.beside(["duo", "cluster=slurm"], defaults.PLACED, say=False)
    (spec, *_) = select([*found, "duo", "cluster=slurm"]).specs
    assert spec.config.cluster.kind == "slurm"


def test_one_run_in_this_process_takes_no_cluster(place: Path, capsys) -> None:
    (place / "vocl.yaml").write_text("cluster: slurm\n")
    assert composed(capsys)[0]["cluster"]["kind"] == "here"
    assert composed(capsys, "-m")[0]["cluster"]["kind"] == "slurm"


def test_a_saved_config_is_complete(place: Path, capsys) -> None:
    config, _ = composed(capsys)
    (place / "config.yaml").write_text(yaml.safe_dump(config))
    (place / "vocl.yaml").write_text("root: mine\n")
    assert train.main(["--config", "config.yaml", "--cfg", "job"]) == 0
    out, error = capsys.readouterr()
    assert yaml.safe_load(out)["runtime"]["root"] == "results" and error == ""


def test_defaults_alone_select_nothing(place: Path, capsys) -> None:
    (place / "vocl.yaml").write_text("root: mine\ncluster: slurm\n")
    for verb in ("plan", "submit", "fill", "cache", "table", "retry", "cancel", "tend"):
        assert vocl([verb]) == 2
        assert capsys.readouterr().err.count("\n") <= 2
    assert not (place / "mine").exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rot: x", "vocl.yaml: rot: unknown key, choose from root, data, weights, project, cluster, "),
        ("rot: x", "did you mean root?"),
        ("train.steps: 3", "vocl.yaml: train.steps: unknown key"),
        ("root: [a]", "vocl.yaml: root: expected a text, not ['a']"),
        ("root: true", "vocl.yaml: root: expected a text, not True"),
        ("root:", "vocl.yaml: root: expected a text, not None"),
        ("- root", "vocl.yaml: expected key: value"),
        ("root: [", "vocl.yaml"),
        ("project: nowhere", "project=nowhere: no such folder"),
    ],
)
def test_a_mistake_in_it_is_one_line_with_its_place(place: Path, capsys, text: str, told: str) -> None:
    (place / "vocl.yaml").write_text(text)
    assert vocl(["plan", "demo"]) == 2
    out, error = capsys.readouterr()
    assert out == "" and told in error.splitlines()[-1]
    assert len(error.splitlines()) == (2 if "project" in text else 1)


def test_a_folder_in_its_place_is_called_no_file(place: Path, capsys) -> None:
    (place / "vocl.yaml").mkdir()
    assert vocl(["plan", "demo"]) == 2
    assert capsys.readouterr().err == "vocl.yaml: not a file\n"


def test_a_file_that_another_user_put_there_is_refused(place: Path, capsys, monkeypatch) -> None:
    (place / "vocl.yaml").write_text("root: mine\n")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    if os.getuid() == 0:
        os.chown(place / "vocl.yaml", 12345, -1)
    assert vocl(["status"]) == 2
    error = capsys.readouterr().err
    assert "is another user's; if you trust it: export VOCL_DEFAULTS=vocl.yaml" in error
    monkeypatch.setenv("VOCL_DEFAULTS", "vocl.yaml")
    assert vocl(["status"]) == 0


@pytest.mark.slow
def test_what_is_submitted_is_recorded_with_them(place: Path) -> None:
    """So that later commands find the same runs, also without the file."""
    (place / "vocl.yaml").write_text("root: mine\ncluster: local\ncluster.slots: 1\n")
    (place / "own" / "conf" / "ablation").mkdir(parents=True)
    text = "base: {debug: tiny}\nrows: {a: {train.steps: 1}}\nseeds: [0]\nmetrics: [video_mbo]\n"
    (place / "own" / "conf" / "ablation" / "one.yaml").write_text(text)
    command = [sys.executable, "-m", "vocl.commands.launching", "submit", "one", "project=own"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = json.loads((place / "mine" / "by-name" / "one" / "selection.json").read_text())
    assert told["arguments"] == [
        'runtime.root="mine"',
        "cluster=local",
        "cluster.slots=1",
        "one",
        "project=own",
    ]
