"""Holding a run's folder against a second process of this machine, and of others."""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from vocl import claims
from vocl.errors import UserError
from vocl.files import make_folder, share

CLAIM = "VOCL_CLAIM"  # environment variable: the token of the claim that this process works for


@contextmanager
def hold(folder: Path) -> Iterator[list[str]]:
    """Within the block this process alone works on the run in `folder`, which is made if absent.

    A job's process works for the claim that its agent names in the environment; any other makes one
    of its own. The last item put into the list that the block is given says how the run fared (see
    `claims.over`). Raises `UserError` when another process works on the run, naming it, or when the
    folder cannot be written. The lock dies with the process, however it ends, and is not inherited by
    loader processes.
    """
    try:
        make_folder(folder)
        lock = _open(folder / "lock")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written (runtime.root): {error.strerror}") from None
    with lock:
        _take(lock, folder)
        outcome: list[str] = []
        claim = _claim(folder)
        try:
            yield outcome
        finally:
            if claim is not None:
                with suppress(OSError):
                    claims.over(claim, outcome[-1] if outcome else "failed")


def _claim(folder: Path) -> claims.Claim | None:
    """A claim of this process's own; None where it works for one."""
    owner = claims.newest(folder)
    if CLAIM in os.environ:
        if owner is not None and owner.token != os.environ[CLAIM]:
            raise UserError(f"{folder}: this run has been taken over by {owner.user} on {owner.host}")
        return None
    made = claims.make(folder, owner, secrets.token_hex(5), "here")
    if made is None:
        raise UserError(f"{folder}: this run has just been taken by another process")
    claims.began(made)
    return made


def _open(path: Path) -> IO[str]:
    lock = path.open("a+")
    with suppress(PermissionError):  # another user's; then it is shared already, or opening it failed
        share(path)
    return lock


def _take(lock: IO[str], folder: Path) -> None:
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {os.uname().nodename} since {time.strftime('%F %T')}\n")
        lock.flush()
    except BlockingIOError:
        lock.seek(0)
        holder = lock.read().strip() or "another process"
        raise UserError(f"{folder}: this run is being worked on already, by {holder}") from None
    except OSError as error:
        raise UserError(f"{folder}: cannot be written (runtime.root): {error.strerror}") from None
