"""Stopping on request: a signal only sets a flag; the loop reads it at a step boundary."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# all by which SLURM, a site's own tools or a person ask a process to leave
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
EXIT_STOPPED = 75  # stopped and resumable


class Stopped(Exception):
    """The run was asked to stop, has saved, and can be resumed."""


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
