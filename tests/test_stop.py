from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from vocl.stop import SIGNALS, stop_on_signal

ASKING = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2")  # what SLURM, a shell, a person may send


@pytest.fixture
def ignored() -> Iterator[int]:
    """As `nohup` starts a process."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield signal.SIGHUP
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("name", ASKING)
def test_every_signal_that_asks_a_process_to_leave_only_sets_the_flag(name: str) -> None:
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with stop_on_signal() as flag:
        os.kill(os.getpid(), number)
        assert flag.signal == number
    assert signal.getsignal(number) == before


def test_the_end_of_a_terminal_stops_nobody_who_asked_not_to_notice(ignored: int) -> None:
    with stop_on_signal() as flag:
        os.kill(os.getpid(), ignored)
        assert not flag
    assert signal.getsignal(ignored) == signal.SIG_IGN


def test_outside_the_block_they_end_a_process() -> None:
    """So that the tests above could fail."""
    for number in SIGNALS:
        kill = f"import os, signal; signal.signal({int(number)}, 0); os.kill(os.getpid(), {int(number)})"
        assert subprocess.run([sys.executable, "-S", "-c", kill]).returncode == -number
