"""`vocl status`: the board, its warnings, and watching it."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from fake_slurm import FakeSlurm
from run_records import (
    BAD,
    DONE,
    LATE,
    QUEUED,
    RUNNING,
    WORSE,
    Sweep,
    beat,
    finish,
    reports,
    status,
    words,
)

import launch.commands.status
from launch.cli import main
from launch.commands import watch
from launch.run_states.health import flags
from launch.run_states.recent import RecentReports
from launch.selection.plan import select
from launch.selection.selector import resolve
from launch.selection.submitted import ROOT
from vocl.config.folders import CONF
from vocl.rundir.records import Records
from vocl.rundir.run_dir import RunDir

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_root_is_that_of_the_configs() -> None:
    assert yaml.safe_load((CONF / "runtime" / "default.yaml").read_text())["root"] == ROOT


def test_status_of_an_ablation(recorded: Sweep, capsys) -> None:
    assert status(recorded, "trio") == 0
    out = capsys.readouterr().out
    assert words(out, f" {DONE} ") == ["row", DONE, "all", "0", DONE, "done"]
    row = words(out, f" {RUNNING} ")
    assert row[4:7] == [RUNNING, "running", "50/100"]
    assert row[-2:] == ["7_1", "n2"]
    assert words(out, f" {QUEUED} ")[5:] == ["queued", "7_2", "Priority"]
    assert "ValueError: video 12 of d000000001 is empty" in out
    assert words(out, f" {LATE} ")[-2:] == ["time", "limit"]
    summary = "6 runs: 1 done, 3 failed, 1 running, 1 queued; "
    assert [line for line in out.splitlines() if line.startswith(summary)]
    assert "3.5 GPU hours so far" in out  # 1.5 of the done one, an hour of each failed one
    assert "warning" not in out


def test_lines_are_not_wrapped(recorded: Sweep) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "launch.cli", "status", "trio", f"runtime.root={recorded.root}"],
        cwd=REPOSITORY,
        env={**os.environ, "COLUMNS": "20"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = [line for line in done.stdout.splitlines() if BAD in line.split()]
    assert line.endswith("is empty") and "\x1b" not in done.stdout


def test_status_loads_nothing_that_it_does_not_need(recorded: Sweep) -> None:
    code = (
        f"import sys; from launch.cli import main; main(['status', 'trio', 'runtime.root={recorded.root}']);"
        "print({'torch', 'hydra', 'pandas', 'yaml', 'rich', 'submitit', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "set()", done.stderr


def test_status_without_a_selector_shows_all_there_is(recorded: Sweep, capsys) -> None:
    beat(recorded.root / "runs" / "f123456789", 3)
    assert status(recorded) == 0
    out = capsys.readouterr().out
    assert "ablation trio" in out and "runs outside of any ablation" in out
    assert "f123456789" in out and "7 runs: " in out
    assert main(["status", f"runtime.root={recorded.root}/nowhere"]) == 0
    assert capsys.readouterr().out == f"no runs in {recorded.root}/nowhere\n"


def test_status_by_run_ids(recorded: Sweep, capsys) -> None:
    assert status(recorded, "a", QUEUED) == 0
    out = capsys.readouterr().out
    assert DONE in out and QUEUED in out and RUNNING not in out
    Sweep(recorded.root, "a999999999")
    assert status(recorded, "a") == 2
    assert "a: several runs begin so: a000000001, a999999999" in capsys.readouterr().err


def test_status_of_what_was_never_submitted_is_composed(
    declare: Callable[..., str], tmp_path, capsys
) -> None:
    arguments = ["trio", declare(), f"runtime.root={tmp_path}/results"]
    assert main(["status", *arguments]) == 0
    out = capsys.readouterr().out
    assert all(spec.id in out for spec in select(arguments).specs)
    assert "6 runs: 6 absent" in out
    assert main(["status", "nosuch", f"runtime.root={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "no run under" in error and "choose from" in error and "demo" in error
    assert main(["status", "--wach", f"runtime.root={tmp_path}"]) == 2


@pytest.mark.parametrize("verb", ["status", "ls", "why", "cancel"])
def test_results_that_are_no_folder(verb: str, tmp_path: Path, capsys) -> None:
    (tmp_path / "file").touch()
    assert main([verb, "abcdef0123", f"runtime.root={tmp_path}/file"]) == 2
    assert capsys.readouterr().err == f"runtime.root={tmp_path}/file: not a folder\n"


def test_blocked_by_the_source(recorded: Sweep, capsys) -> None:
    recorded.table(**{QUEUED: BAD})
    assert status(recorded, "trio", verb="why") == 0
    assert "1 blocked: starts from RUN, which has failed" in capsys.readouterr().out


@pytest.mark.parametrize("fault", ["timeout", "garbage", "Unable to contact slurm controller"])
def test_slurm_does_not_answer(recorded: Sweep, slurm: FakeSlurm, capsys, monkeypatch, fault: str) -> None:
    slurm.fault("squeue", fault)
    monkeypatch.setattr(launch.commands.status, "PATIENCE_S", 0.3 if fault == "timeout" else 20.0)
    assert status(recorded, "trio") == 0
    out = capsys.readouterr().out
    assert out.count("warning: ") == 1 and "this is what the records say" in out
    assert words(out, f" {RUNNING} ")[5:7] == ["running", "50/100"]
    assert "1 done" in out


def test_flags(tmp_path: Path) -> None:
    def flagged(losses: list[float], **facts: float) -> str:
        folder = tmp_path / "run"
        reports(folder, losses, **facts)
        (folder / "config.yaml").write_text("seed: 0\nmodel:\n  _target_: x\n  num_slots: 7\n")
        return "; ".join(flags(Records(RunDir(folder))))

    falling = [1 / (i + 1) + 0.01 * (i % 3) for i in range(20)]
    risen = [*falling[:15], 5.0, *falling[15:]]
    assert flagged(falling) == ""
    assert flagged([*falling[:9], 50.0]) == "loss spike: 0.1311 to 50 at step 45"
    assert flagged(risen) == "loss spike: 0.07692 to 5 at step 75, and came back"
    assert flagged([1.0, 9.0, 1.0]) == ""
    assert flagged(falling, slots_used=1.1) == "slots collapsed: 1.1 of 7 slots win a patch"
    assert "mask entropy 1.94 of at most 1.95" in flagged(falling, mask_entropy=1.94)
    assert flagged([0.5] * 20, slots_used=1.6) == ""
    assert flagged([0.1], slots_used=1.0) == ""  # too early to tell


def test_a_new_stage_is_no_spike(tmp_path: Path) -> None:
    reports(tmp_path, [0.1, 0.11] * 10)
    before = (tmp_path / "metrics.jsonl").read_text()
    reports(tmp_path, [5.0, 5.1] * 10, stage=1)
    (tmp_path / "metrics.jsonl").write_text(before + (tmp_path / "metrics.jsonl").read_text())
    assert flags(Records(RunDir(tmp_path))) == []
    assert len(RecentReports(Records(RunDir(tmp_path))).losses()) == 20


def test_a_log_that_is_being_written(tmp_path: Path) -> None:
    reports(tmp_path, [0.1] * 400)
    with (tmp_path / "metrics.jsonl").open("a") as log:
        log.write('{"step": 2000, "loss": 9')
    losses = RecentReports(Records(RunDir(tmp_path))).losses()
    assert losses[-1] == (1995, 0.1) and set(losses) <= {(i * 5, 0.1) for i in range(400)}
    assert len(losses) > 80


def test_a_flag_is_one_line(recorded: Sweep, capsys) -> None:
    reports(recorded.folder(RUNNING), [0.1] * 30 + [7.0] * 2, slots_used=1.0)
    status(recorded, "trio")
    out = capsys.readouterr().out
    (line,) = [line for line in out.splitlines() if line.startswith("warning")]
    assert line.startswith(
        f"warning: {RUNNING} (row {RUNNING}, all, seed 0): slots collapsed: 1.0 of all slots"
    )
    assert "loss spike: 0.1 to 7 at step 150" in line


def test_watching_asks_slurm_less_and_less_until_there_is_news(recorded: Sweep, slurm, monkeypatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(watch.time, "monotonic", lambda: now[0])
    patient, chosen = watch.Patient(), resolve(["trio", f"runtime.root={recorded.root}"])

    def asked_after(seconds: float) -> bool:
        now[0] += seconds
        before = len(slurm.calls)
        chosen.look(patient)
        return len(slurm.calls) > before

    assert asked_after(0)
    assert [asked_after(s) for s in (3, 8)] == [False, True]
    assert [asked_after(s) for s in (11, 10)] == [False, True]
    assert [asked_after(s) for s in (39, 2)] == [False, True]
    assert [asked_after(s) for s in (59, 2)] == [False, True]
    recorded.over(RUNNING, "stopped")
    assert asked_after(11)


def test_watching_in_a_pipe_ends_when_nothing_is_live(tmp_path: Path, slurm: FakeSlurm, capsys) -> None:
    recorded = Sweep(tmp_path / "results", DONE)
    recorded.table()
    finish(recorded.folder(DONE))
    assert status(recorded, "trio", "--watch") == 0
    assert "1 run: 1 done" in capsys.readouterr().out


@pytest.mark.parametrize("key", [b"q", b"\x03"])
def test_watching_on_a_terminal_until_a_key(recorded: Sweep, key: bytes) -> None:
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(REPOSITORY)
        arguments = ["-m", "launch.cli", "status", "trio", "--watch", f"runtime.root={recorded.root}"]
        os.execv(sys.executable, [sys.executable, *arguments])
    shown = b""
    while b"q: leave" not in shown:
        shown += os.read(terminal, 65536)
    assert b"6 runs" in shown
    os.write(terminal, key)
    try:
        while os.read(terminal, 65536):
            pass
    except OSError:  # the other end is gone
        pass
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0


def test_a_board_that_does_not_fit_shows_trouble_first(recorded: Sweep) -> None:
    picture = launch.commands.status.take(resolve(["trio", f"runtime.root={recorded.root}"]))
    lines = watch.fit(picture, height=8, width=60)
    assert len(lines) <= 8 and all(len(line) <= 60 for line in lines)
    assert BAD in lines[1] and WORSE in lines[2] and "... and 3 more" in lines[4]
