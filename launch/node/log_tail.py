"""The last lines of a log."""

from __future__ import annotations

import os
from pathlib import Path

from vocl.errors import UserError
from vocl.files import open_regular
from vocl.tracking.log import unstamped


def last_line(log: Path, offset: int = 0) -> str:
    """The last thing that a run said, `offset` bytes into its log or later, without when it did."""
    return next(map(unstamped, last_lines(log, 1, offset)), "no output")


def last_lines(log: Path, number: int, offset: int = 0) -> list[str]:
    """The last lines with text in a log, `offset` bytes into it or later. No link is followed: they go on
    record, where others read them."""
    try:
        with open_regular(log, links=False) as content:
            size = content.seek(0, os.SEEK_END)
            content.seek(max(offset, size - 8192))
            lines = content.read().decode(errors="replace").splitlines()
    except (OSError, UserError):
        return []
    return [line.strip() for line in lines if line.strip()][-number:]
