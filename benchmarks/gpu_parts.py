"""The parts of `make gpu`, each by a process of its own (gpu.py): what ends one does not end the others."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import torch

from vocl.stop import end_with_parent

Rows = Iterator[dict[str, Any]]
Part = Callable[[torch.device], Rows]


def rows_of(part: Part, device: torch.device, most_s: float) -> Rows:
    """The rows of `part`, as they come, for at most so many seconds.

    One more says so where it took longer, raised something, or is gone: out of memory, or by an error after
    which a process cannot use its GPU any more.
    """
    until, spawn = time.monotonic() + most_s, multiprocessing.get_context("spawn")
    here, there = spawn.Pipe(duplex=False)
    own = (part, device, there, os.getpid())
    process = spawn.Process(target=_send, args=own)  # a fork cannot use a GPU in use
    process.start()
    there.close()
    try:
        while here.poll(max(0.0, until - time.monotonic())):
            row = here.recv()
            if row is None:
                return
            yield row
        yield {"error": f"the rest is left out, after {most_s:.0f} s"}
    except (EOFError, OSError):  # OSError: in the middle of a row
        process.join()
        yield {"error": f"its process ended with exit code {process.exitcode}"}
    finally:
        _end(process)


def told(error: Exception) -> str:
    """An error as a word of a row."""
    return f"{type(error).__name__}: {error}"


def _send(part: Part, device: torch.device, there: Connection, parent: int) -> None:
    os.setpgid(0, 0)  # ends with all that it starts
    end_with_parent(parent, signal.SIGKILL)
    try:
        for row in part(device):
            there.send(row)
    except Exception as error:
        there.send({"error": told(error)})
    there.send(None)


def _end(process: Any) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()
