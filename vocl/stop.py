"""Stopping on request: a signal only sets a flag; the loop reads it at a step boundary.

SLURM and terminals send a signal to every process of a training. The training alone answers it; the
processes that help it leave it alone, and end with the training.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# all by which SLURM, a site's own tools or a person ask a process to leave
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
NOT_FOR_HELPERS = SIGNALS  # nor for loaders, mirrors and git, which share its process group
EXIT_STOPPED = 75  # stopped and resumable
EXIT_TAKEN = 76  # of a job's process: another one had the run all the while that it waited for it
PR_SET_PDEATHSIG = 1  # of prctl(2)
_prctl = ctypes.CDLL(None).prctl if sys.platform.startswith("linux") else None


class Stopped(Exception):
    """The run was asked to stop, has saved, and can be resumed."""


class Paused(Stopped):
    """The run has come as far as `runtime.stop_at` says, has been scored there, and can go on."""


class StopFlag:
    """Remembers the first stop signal."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    def _catch(self, number: int, frame: FrameType | None) -> None:
        self.signal = self.signal or number


@contextmanager
def stop_on_signal(flag: StopFlag | None = None) -> Iterator[StopFlag]:
    """Within the block each of `SIGNALS` sets the flag instead of ending the process; SIGHUP only where it
    would end it (nohup)."""
    flag = StopFlag() if flag is None else flag
    nohup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    caught = [number for number in SIGNALS if not (nohup and number == signal.SIGHUP)]
    before = {number: signal.signal(number, flag._catch) for number in caught}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def shielded() -> Iterator[None]:
    """Start helpers within the block: the signals that are not for them wait until it is over.

    A process that is started within inherits that they wait, so none reaches it before it has called
    `ignore_signals`.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, NOT_FOR_HELPERS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_signals() -> None:
    """What a helper does first: signals that are meant for the training pass it by, also those waiting."""
    for number in NOT_FOR_HELPERS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, NOT_FOR_HELPERS)


def end_with_parent(parent: int, number: int) -> None:
    """Have Linux send `number` to this process once `parent`, which has just started it, is gone."""
    if _prctl is None:
        return
    _prctl(PR_SET_PDEATHSIG, int(number))
    if os.getppid() != parent:
        os._exit(EXIT_STOPPED)
