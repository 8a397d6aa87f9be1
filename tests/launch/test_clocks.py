"""Machines whose clocks are wrong, by seconds or by hours, ahead or behind: nothing is judged by them."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path

import pytest
import yaml
from acting import Sweep, tend_duo
from fake_slurm import FakeSlurm
from run_records import end, put, start

from launch.cli import main
from launch.commands import gc
from launch.commands.sharing import pull, sync
from launch.run_states.states import is_submitting, look
from launch.selection.plan import select
from vocl.rundir import claims, file_times
from vocl.rundir.results_root import ResultsRoot
from vocl.rundir.run_dir import RunDir

RUN = "0123456789"
SKEWS = (-3600.0, -90.0, 90.0, 3600.0)  # of the node against this machine


def beat(folder: Path, skew_s: float, written_s: float) -> None:
    """A heartbeat of another machine with a wrong clock; the file server's was right as it was written."""
    content = {"attempt": 1, "step": 5, "steps": 9, "pid": 1, "host": "elsewhere"}
    put(folder / "heartbeat.json", content | {"time": time.time() - written_s + skew_s})
    os.utime(folder / "heartbeat.json", (time.time() - written_s,) * 2)


def unfinished(root: Path, seed: int) -> Path:
    """A run that nobody has claimed."""
    (spec,) = select([f"seed={seed}", f"runtime.root={root}", "debug=tiny"]).specs
    folder = root / "runs" / spec.id
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(spec.content))
    return folder


@pytest.fixture(autouse=True)
def no_reading_is_kept(monkeypatch) -> None:
    monkeypatch.setattr(file_times, "_read", {})


@pytest.mark.parametrize("skew_s", SKEWS)
def test_a_live_run_runs_and_a_killed_one_does_not(tmp_path: Path, skew_s: float, capsys) -> None:
    folder = tmp_path / "runs" / RUN
    start(folder, age_s=7200 - skew_s)
    beat(folder, skew_s, written_s=0)
    assert look(ResultsRoot(tmp_path), [RUN])[0][RUN].name == "running"
    assert sync.is_live(RunDir(folder))
    beat(folder, skew_s, written_s=1800)
    found = look(ResultsRoot(tmp_path), [RUN])[0][RUN]
    assert (found.name, found.reason) == ("interrupted", "killed")
    assert not sync.is_live(RunDir(folder))
    assert main(["status", RUN, f"runtime.root={tmp_path}"]) == 0
    assert "interrupted" in capsys.readouterr().out


@pytest.mark.parametrize("ahead_s", [-7200.0, 7200.0])
def test_this_machines_own_clock_decides_nothing(tmp_path: Path, monkeypatch, ahead_s: float) -> None:
    folder = tmp_path / "runs" / RUN
    real = time.time
    start(folder)
    beat(folder, 0.0, written_s=0)
    monkeypatch.setattr(time, "time", lambda: real() + ahead_s)
    assert look(ResultsRoot(tmp_path), [RUN])[0][RUN].name == "running"
    os.utime(folder / "heartbeat.json", (real() - 1800,) * 2)
    assert look(ResultsRoot(tmp_path), [RUN])[0][RUN].name == "interrupted"


def test_looking_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / RUN
    start(folder)
    beat(folder, 0.0, written_s=0)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    look(ResultsRoot(tmp_path), [RUN])
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_who_may_only_read_looks_all_the_same(tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "runs" / RUN
    start(folder)
    beat(folder, 3600.0, written_s=1800)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(file_times.tempfile, "TemporaryFile", refuse)
    assert look(ResultsRoot(tmp_path), [RUN])[0][RUN].name == "interrupted"


@pytest.mark.parametrize("skew_s", SKEWS)
def test_pull_of_unfinished_runs(tmp_path: Path, capsys, skew_s: float) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    live, killed, stopped = (unfinished(there, seed) for seed in range(3))
    beat(live, skew_s, written_s=0)
    beat(killed, skew_s, written_s=1800)
    beat(stopped, skew_s, written_s=0)
    start(stopped)
    end(stopped, "stopped")
    assert main(["pull", str(there), f"runtime.root={here}"]) == 0
    out = capsys.readouterr().out
    assert f"not pulled: {live.name}: is running there" in out
    assert {path.name for path in (here / "runs").iterdir()} == {killed.name, stopped.name}


@pytest.mark.parametrize("tool", ["rsync", "scp"])
def test_pull_from_another_machine_looks_twice(tmp_path: Path, monkeypatch, capsys, tool) -> None:
    """What the file server there dates is compared with nothing of here."""
    here, there = tmp_path / "here", tmp_path / "there"
    live, killed = (unfinished(there, seed) for seed in range(2))
    for folder in (live, killed):
        beat(folder, 3600.0, written_s=-3600)
    shim = tmp_path / "bin" / tool
    shim.parent.mkdir()
    shim.write_text(
        f"#!{sys.executable} -S\nimport os, sys, shutil\n"
        "source = sys.argv[-2].partition(':')[2]\n"
        "(shutil.copytree if os.path.isdir(source) else shutil.copyfile)(source, sys.argv[-1])\n"
    )
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(shim.parent))
    slept = []

    def later(seconds: float) -> None:
        slept.append(seconds)
        content = json.loads((live / "heartbeat.json").read_text())
        put(live / "heartbeat.json", content | {"step": 6})

    monkeypatch.setattr(pull.time, "sleep", later)
    monkeypatch.setattr(pull, "STALE_S", 100000.0)
    assert main(["pull", f"me@far:{there}", f"runtime.root={here}"]) == 0
    assert slept and f"not pulled: {live.name}: is running there" in capsys.readouterr().out
    assert [path.name for path in (here / "runs").iterdir()] == [killed.name]


@pytest.mark.parametrize("skew_s", [-7200.0, -120.0, 7200.0])
def test_tend_judges_progress_by_steps(sweep, skew_s: float) -> None:
    it: Sweep = sweep()
    run, stuck, *_ = it.ids
    it.lost(run, "PREEMPTED", begins=0, saved=10)
    it.lost(stuck, "PREEMPTED", begins=10, saved=10)
    for each in (run, stuck):
        path = it.folder(each) / "events" / "0001-start.json"
        written = path.stat().st_mtime
        content = json.loads(path.read_text())
        path.write_text(json.dumps(content | {"time": content["time"] + skew_s}))
        os.utime(path, (written, written))
    assert tend_duo(it) == 0
    assert it.state(run).name == "queued"
    assert (it.state(stuck).name, "no progress" in it.state(stuck).reason) == ("failed", True)


@pytest.mark.parametrize("skew_s", [-7200.0, 7200.0])
def test_a_failure_told_by_a_node_with_another_clock_is_the_runs_own(sweep, skew_s: float) -> None:
    it: Sweep = sweep()
    run = it.ids[0]
    it.starts(run)
    event = {"attempt": 1, "time": time.time() + skew_s, "outcome": "failed", "kind": "ValueError"}
    put(it.folder(run) / "events" / "0001-failed.json", event | {"message": "no", "wall_s": 1.0})
    it.ends(run, "FAILED")
    assert it.state(run).reason == "ValueError: no"


@pytest.mark.parametrize("skew_s", [-7200.0, 7200.0])
def test_a_requeued_run_starts_whatever_the_nodes_before_it_said(sweep, skew_s: float) -> None:
    it: Sweep = sweep()
    run = it.ids[0]
    beat(it.folder(run), skew_s, written_s=600)
    it.starts(run)
    assert (it.state(run).name, it.state(run).reason) == ("running", "starting")
    beat(it.folder(run), skew_s, written_s=-5)
    assert (it.state(run).name, it.state(run).reason) == ("running", "")


@pytest.mark.parametrize("skew_s", SKEWS)
def test_a_submitter_on_another_machine_is_at_it_while_its_claim_is_new(tmp_path: Path, skew_s) -> None:
    claims.make(RunDir(tmp_path / RUN), None, "token", "slurm")
    path = tmp_path / RUN / "jobs" / "0001.json"
    content = json.loads(path.read_text())
    put(path, content | {"host": "elsewhere", "time": content["time"] + skew_s})
    assert is_submitting(claims.newest(RunDir(tmp_path / RUN)))
    os.utime(path, (time.time() - 1800,) * 2)
    assert not is_submitting(claims.newest(RunDir(tmp_path / RUN)))


def test_accounting_is_asked_also_where_the_submitters_clock_was_ahead(slurm: FakeSlurm, sweep) -> None:
    it: Sweep = sweep()
    it.lost(it.ids[0], "PREEMPTED")
    it.state(it.ids[0])
    call = next(call for call in slurm.calls if call[0] == "sacct")
    since = next(word.partition("=")[2] for word in call if word.startswith("--starttime="))
    assert time.mktime(time.strptime(since, "%Y-%m-%dT%H:%M:%S")) < time.time() - 7200


def test_gc_spares_what_is_new_for_the_file_server(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "ledger" / "abcdef0123").mkdir(parents=True)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 86400)
    assert not list(gc.find(ResultsRoot(tmp_path)))
    os.utime(tmp_path / "ledger" / "abcdef0123", (real() - 7200,) * 2)
    assert [waste.path.name for waste in gc.find(ResultsRoot(tmp_path))] == ["abcdef0123"]
    shutil.rmtree(tmp_path / "ledger")
