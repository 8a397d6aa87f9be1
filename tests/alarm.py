"""What waits for ever, for a pipe say, fails its test instead."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def ends_soon(what: str, seconds: int) -> Iterator[None]:
    """Within the block nothing may take longer than so many seconds."""

    def over(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"{what}: still not over after {seconds} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
