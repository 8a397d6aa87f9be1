"""What becomes of a run whose pool was killed: its process trains on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launch.cli import main
from launch.run_states.states import RunState, look, refuse_taken
from launch.selection.plan import select
from vocl.errors import UserError
from vocl.rundir import claims, processes
from vocl.rundir.results_root import ResultsRoot
from vocl.rundir.run_dir import RunDir

REPOSITORY = Path(__file__).resolve().parents[2]


def wait(condition: Callable[[], object], seconds: float = 90) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


class Orphan:
    """A run in the folder `run` whose pool, `vocl submit *arguments`, can be killed."""

    def __init__(self, root: Path) -> None:
        budget = ("train.steps=400", "runtime.checkpoint_every=20")
        self.arguments = ["debug=tiny", "cluster=local", *budget, f"runtime.root={root}"]
        (spec,) = select(self.arguments).runs
        self.root, self.run, self.id = root, root / "runs" / spec.id, spec.id
        command = [sys.executable, "-m", "launch.cli", "submit", *self.arguments]
        self.pool = subprocess.Popen(command, cwd=REPOSITORY)
        wait(lambda: self.claim is not None and self.claim.start)
        self.pid = self.claim.start["pid"]

    @property
    def claim(self) -> claims.Claim | None:
        return claims.newest(RunDir(self.run))

    @property
    def state(self) -> RunState:
        return look(ResultsRoot(self.root), [self.id])[0][self.id]

    def kill_pool(self) -> None:
        self.pool.kill()
        self.pool.wait()


@pytest.fixture
def orphan(tmp_path: Path) -> Iterator[Orphan]:
    made = Orphan(tmp_path / "r")
    yield made
    made.kill_pool()
    if left := claims.worker(made.claim):
        os.kill(left, signal.SIGKILL)


@pytest.mark.slow
def test_the_run_of_a_killed_pool_is_running_and_can_be_cancelled(orphan: Orphan, capsys) -> None:
    orphan.kill_pool()
    assert not (orphan.run / "heartbeat.json").exists()
    assert orphan.state.name == "running"
    assert main(["submit", *orphan.arguments]) == 0
    assert "1 running already, 0 to do" in capsys.readouterr().out
    assert len(claims.history(RunDir(orphan.run))) == 1
    with pytest.raises(UserError, match=f"being worked on already, by process {orphan.pid} on .*vocl cancel"):
        refuse_taken(RunDir(orphan.run))
    wait(lambda: RunDir(orphan.run).newest_step())
    place = f"runtime.root={orphan.root}"
    assert main(["cancel", orphan.id, place]) == 0
    assert f"process {orphan.pid}, left behind by its pool\n" in capsys.readouterr().out
    assert processes.start_ticks(orphan.pid) is None
    assert (orphan.state.name, orphan.state.reason) == ("failed", "cancelled")
    assert json.loads((orphan.run / "events" / "0001-stopped.json").read_text())["signal"] == signal.SIGTERM
    assert main(["cancel", orphan.id, place]) == 0
    assert "1 runs: 0 cancelled, 0 not" in capsys.readouterr().out


@pytest.mark.slow
def test_the_same_submit_goes_on_once_what_a_killed_pool_left_has_ended(orphan: Orphan) -> None:
    wait(lambda: RunDir(orphan.run).newest_step())
    orphan.kill_pool()
    assert orphan.state.name == "running"
    os.kill(orphan.pid, signal.SIGKILL)
    wait(lambda: orphan.state.name == "interrupted", 5)
    assert main(["submit", *orphan.arguments]) == 0
    assert json.loads((orphan.run / "result.json").read_text())["attempts"] == 2


@pytest.mark.slow
def test_a_run_that_no_pool_has_can_be_cancelled_too(tmp_path: Path, capsys) -> None:
    """As the line with which `python -m vocl.train` refuses such a run says."""
    arguments = ["debug=tiny", "train.steps=4000", f"runtime.root={tmp_path}/r"]
    training = subprocess.Popen([sys.executable, "-m", "vocl.train", *arguments], cwd=REPOSITORY)
    (spec,) = select(arguments).runs
    try:
        wait(lambda: RunDir(tmp_path / "r" / "runs" / spec.id).newest_step())
        assert main(["cancel", spec.id, f"runtime.root={tmp_path}/r"]) == 0
        assert f"process {training.pid}\n" in capsys.readouterr().out
        assert training.wait(90) == 75
    finally:
        training.kill()


def test_a_run_that_waits_in_a_pool_is_not_cancelled_alone(tmp_path: Path, capsys) -> None:
    (spec,) = select([f"runtime.root={tmp_path}"]).runs
    claims.make(RunDir(tmp_path / "runs" / spec.id), None, "token", "local")
    assert main(["cancel", spec.id, f"runtime.root={tmp_path}"]) == 1
    assert f"waits in the pool of process {os.getpid()}; end that by kill" in capsys.readouterr().err


def test_a_process_without_record_is_named_by_its_heartbeat(tmp_path: Path, capsys) -> None:
    (spec,) = select([f"runtime.root={tmp_path}"]).runs
    folder = tmp_path / "runs" / spec.id
    with subprocess.Popen([sys.executable, "-c", MAKE, str(folder)], cwd=REPOSITORY) as pool:
        pool.wait()
    beat = {"time": time.time(), "pid": os.getpid(), "host": os.uname().nodename}
    beat |= {"attempt": 1, "step": 1, "steps": 9}
    (folder / "heartbeat.json").write_text(json.dumps(beat))
    assert main(["cancel", spec.id, f"runtime.root={tmp_path}"]) == 1
    assert f"end that by kill {os.getpid()}" in capsys.readouterr().err


def test_a_process_of_somebody_else_is_said_to_be_so(tmp_path: Path, monkeypatch, capsys) -> None:
    def refuse(pid: int, number: int) -> None:
        raise PermissionError

    (spec,) = select([f"runtime.root={tmp_path}"]).runs
    claim = claims.make(RunDir(tmp_path / "runs" / spec.id), None, "token", "here")
    claims.began(claim)
    monkeypatch.setattr(os, "kill", refuse)
    assert main(["cancel", spec.id, f"runtime.root={tmp_path}"]) == 1
    assert f"process {os.getpid()} is another user's ({claim.user})" in capsys.readouterr().err
    assert claims.newest(claim.run).end is None


@pytest.mark.parametrize("planted", ["number", "another run's", "linked lock", "word"])
def test_a_record_ends_no_process_that_works_on_something_else(tmp_path: Path, planted: str, capsys) -> None:
    """A colleague may write any number into a record, and knows the token of the run that it is of."""
    (spec,) = select([f"runtime.root={tmp_path}"]).runs
    run, other = tmp_path / "runs" / spec.id, tmp_path / "runs" / "aaaaaaaaaa"
    for folder in (run, other):
        folder.mkdir(parents=True)
        (folder / "config.yaml").touch()
    command = [sys.executable, "-c", HOLD, str(other / "lock"), "--config", str(other / "config.yaml")]
    environment = os.environ | {"VOCL_CLAIM": "token"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as victim:
        try:
            assert victim.stdout.readline() == b"ready\n"
            if planted == "linked lock":
                os.link(other / "lock", run / "lock")
            claim = claims.make(RunDir(run), None, "other" if planted == "number" else "token", "local")
            claims.began(claim, victim.pid)
            if planted == "word":
                record = json.loads(claim.start_path.read_text())
                claim.start_path.write_text(json.dumps(record | {"pid": str(victim.pid)}))
            assert main(["cancel", spec.id, f"runtime.root={tmp_path}"]) == 1
            assert victim.poll() is None
        finally:
            victim.kill()
    told = capsys.readouterr().err
    assert told.startswith(f"not cancelled {spec.id}") and told.count("\n") == 1
    assert planted == "word" or f"process {victim.pid} shows no sign that it works on it" in told
    assert claims.newest(RunDir(run)).end is None


HOLD = """
import sys, time
lock = open(sys.argv[1], "a")
print("ready", flush=True)
time.sleep(60)
"""


MAKE = """
import sys
from pathlib import Path
from vocl.rundir import claims
from vocl.rundir.run_dir import RunDir
claims.make(RunDir(Path(sys.argv[1])), None, "token", "local")
"""


def test_a_later_process_of_the_same_number_does_not_work_for_a_claim(tmp_path: Path) -> None:
    claim = claims.make(RunDir(tmp_path / "run"), None, "token", "local")
    for facts, worker in (({}, os.getpid()), ({"born": 1}, None), ({"node": "elsewhere"}, None)):
        claims.began(claim, **facts)
        assert claims.worker(claims.newest(RunDir(tmp_path / "run"))) == worker


def test_a_process_that_has_ended_is_gone_before_its_parent_asks_how() -> None:
    """An orphan's new parent, as in a container, may never ask."""
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert processes.start_ticks(process.pid) is None
