"""Two processes at one run: a job waits for the one before it, anybody else is told at once."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vocl.errors import RunIsTaken
from vocl.rundir import claims, lock
from vocl.rundir.lock import hold
from vocl.rundir.run_dir import RunDir
from vocl.stop import EXIT_TAKEN, StopFlag

REPOSITORY = Path(__file__).resolve().parents[1]
HOLDER = """
import fcntl, sys, time
lock = open(sys.argv[1], "a+")
fcntl.lockf(lock, fcntl.LOCK_EX)
lock.write("process 1 on n1")
lock.flush()
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Within the block another process has the run; it leaves when its input is closed."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-S", "-c", HOLDER, str(folder / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        if not process.stdin.closed:
            process.stdin.close()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "aaaaaaaaaa"


def test_a_job_goes_on_once_the_old_process_has_left(run: Path, monkeypatch) -> None:
    claims.make(RunDir(run), None, "token", "slurm")
    monkeypatch.setenv(lock.CLAIM, "token")
    monkeypatch.setattr(lock, "WAIT_S", 3600.0)
    with held(run) as other:
        monkeypatch.setattr(lock.time, "sleep", lambda _: other.stdin.close() or other.wait())
        with hold(RunDir(run)) as outcome:
            outcome.append("done")
    assert f"process {os.getpid()}" in (run / "lock").read_text()


def test_a_job_waits_no_longer_than_it_may(run: Path, monkeypatch) -> None:
    claims.make(RunDir(run), None, "token", "slurm")
    monkeypatch.setenv(lock.CLAIM, "token")
    monkeypatch.setattr(lock, "WAIT_S", 0.1)
    with (
        held(run),
        pytest.raises(RunIsTaken, match="worked on already, by process 1 on n1"),
        hold(RunDir(run)),
    ):
        pass


def test_a_job_that_is_asked_to_leave_waits_no_longer(run: Path, monkeypatch) -> None:
    claims.make(RunDir(run), None, "token", "slurm")
    monkeypatch.setenv(lock.CLAIM, "token")
    monkeypatch.setattr(lock, "WAIT_S", 3600.0)
    stop = StopFlag()
    monkeypatch.setattr(lock.time, "sleep", lambda _: setattr(stop, "signal", 15))
    with held(run), pytest.raises(RunIsTaken), hold(RunDir(run), stop):
        pass


def test_a_person_is_told_at_once(run: Path, monkeypatch) -> None:
    monkeypatch.setattr(lock, "WAIT_S", 3600.0)
    began = time.monotonic()
    with held(run), pytest.raises(RunIsTaken), hold(RunDir(run)):
        pass
    assert time.monotonic() - began < 600


@pytest.mark.slow
def test_the_exit_code_of_a_job_says_that_the_run_was_taken(tmp_path: Path) -> None:
    arguments = ["debug=tiny", f"runtime.root={tmp_path}"]
    from vocl.config.compose import composed

    folder = tmp_path / "runs" / composed(arguments).run_id
    code = "import sys; from vocl import train; from vocl.rundir import lock; lock.WAIT_S = 0.1"
    code = f"{code}; sys.exit(train.main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, *arguments]
    claims.make(RunDir(folder), None, "token", "slurm")
    for token, expected in (("token", EXIT_TAKEN), (None, 2)):
        with held(folder):
            environment = {key: value for key, value in os.environ.items() if key != lock.CLAIM}
            environment |= {lock.CLAIM: token} if token else {}
            if token is None:
                claims.over(claims.newest(RunDir(folder)), "stopped")
            done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
        assert done.returncode == expected and done.stderr.count("\n") == 1, done.stderr
        assert "worked on already, by process 1 on n1" in done.stderr
