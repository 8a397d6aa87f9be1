"""Holding a run's folder against a second process."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from vocl.errors import UserError


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Within the block this process alone works on the run in `folder`, which is made if absent.

    Raises `UserError` when another process does, naming it, or when the folder cannot be written.
    The lock dies with the process, however it ends, and is not inherited by loader processes.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("a+")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written (runtime.root): {error.strerror}") from None
    with lock:
        _take(lock, folder)
        yield


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
