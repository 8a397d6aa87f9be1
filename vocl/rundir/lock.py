"""Holding a run's folder against a second process of this machine, and of others."""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

from vocl.errors import RunIsTaken, UserError
from vocl.files import make_folder, open_plain, refuse_planted
from vocl.rundir import claims
from vocl.rundir.run_dir import RunDir
from vocl.stop import StopFlag

CLAIM = "VOCL_CLAIM"  # environment variable: the token of the claim that this process works for
WAIT_S = 60.0  # of a job for the process of its run's last attempt, which may take long to die
POLL_S = 0.5


@contextmanager
def hold(run: RunDir, stop: StopFlag | None = None) -> Iterator[list[str]]:
    """Within the block this process alone works on `run`, whose folder is made if absent.

    A job's process works for the claim that its agent names in the environment; any other makes one
    of its own. The last item put into the list that the block is given says how the run fared (see
    `claims.over`). Raises `RunIsTaken` when another process works on the run, naming it; a job's
    process gives it `WAIT_S` to leave, unless `stop` is set meanwhile. Raises `UserError` when the folder
    cannot be written. The lock dies with the process, however it ends, and is not inherited by loader
    processes.
    """
    with _writing(run):
        for place in (run.path.parent, run.path):
            refuse_planted(place)
        make_folder(run.path)
        lock = open_plain(run.lock_path, "a+")
    with lock:
        with _writing(run):
            _take(lock, run, stop)
        outcome: list[str] = []
        with _writing(run):
            claim = _claim(run)
        line = None
        try:
            yield outcome
        except BaseException as error:
            line = " ".join(f"{type(error).__name__}: {error}".split())
            raise
        finally:
            if claim is not None:
                with suppress(OSError):
                    claims.over(claim, outcome[-1] if outcome else "failed", line=line)


@contextmanager
def _writing(run: RunDir) -> Iterator[None]:
    """Tell what a full, read-only or otherwise hostile folder does to a run in one line."""
    try:
        yield
    except OSError as error:
        place = error.filename or run
        why = error.strerror or error
        raise UserError(f"{place}: cannot be written (runtime.root): {why}") from None


def _claim(run: RunDir) -> claims.Claim | None:
    """A claim of this process's own; None where it works for one."""
    owner = claims.newest(run)
    if CLAIM in os.environ:
        if owner is not None and owner.token != os.environ[CLAIM]:
            raise UserError(f"{run}: this run has been taken over by {owner.user} on {owner.host}")
        return None
    made = claims.make(run, owner, secrets.token_hex(5), "here")
    if made is None:
        raise UserError(f"{run}: this run has just been taken by another process")
    claims.began(made)
    return made


def _take(lock: IO[str], run: RunDir, stop: StopFlag | None) -> None:
    until = time.monotonic() + (WAIT_S if CLAIM in os.environ else 0.0)
    while not is_free(lock):
        if stop or time.monotonic() >= until:
            lock.seek(0)
            holder = lock.read().strip() or "another process"
            raise RunIsTaken(f"{run}: this run is being worked on already, by {holder}")
        time.sleep(POLL_S)
    lock.truncate(0)
    lock.write(f"process {os.getpid()} on {os.uname().nodename} since {time.strftime('%F %T')}\n")
    lock.flush()


def is_free(lock: IO[str]) -> bool:
    """Whether nobody else had the lock; it is this process's then."""
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # some file systems say EACCES
        return False
    return True
