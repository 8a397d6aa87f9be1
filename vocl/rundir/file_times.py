"""Whether what a file tells is of now, and what was written first, by one clock.

Two machines' clocks may lie hours apart, so the times that records hold are compared only with others of
the same machine. Of all other files the file server's clock counts, which dates them as they are written:
against each other, or against a file that this machine has just made beside them. Copies must keep times.
"""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from vocl.files import TEMPORARY

KEPT_S = 10.0  # for which a reading of a file server's clock is kept
_read: dict[int, tuple[float | None, float]] = {}  # by device: a reading or none, and when by our own count


def is_recent(path: Path, seconds: float) -> bool:
    """Whether a file or link was written within so many seconds; not where it is gone, nor where it is
    dated in the future, as copies from another file server may be."""
    age = age_s(path)
    return age is not None and abs(age) < seconds


def age_s(path: Path) -> float | None:
    """Seconds since a file or link was written; None where it is gone."""
    written = written_at(path)
    return None if written is None else _now(path.parent) - written


def is_later(path: Path, other: Path) -> bool:
    """Whether file `path` was written after the file `other`; not where either is gone."""
    first, second = written_at(other), written_at(path)
    return first is not None and second is not None and second > first


def written_at(path: Path) -> float | None:
    """When a file or link was written, by the file server's clock; None where it is gone."""
    try:
        return path.lstat().st_mtime
    except OSError:
        return None


def _now(folder: Path) -> float:
    """The time by the clock that dates files in `folder`. Who may write neither there nor in the folder
    above, and so can act on no answer, gets this machine's."""
    try:
        device = folder.stat().st_dev
    except OSError:
        return time.time()
    reading, at = _read.get(device, (None, float("-inf")))
    passed = time.monotonic() - at
    if passed > KEPT_S:
        reading, passed = _reading(folder, device), 0.0
        _read[device] = reading, time.monotonic()
    return time.time() if reading is None else reading + passed


def _reading(folder: Path, device: int) -> float | None:
    """How a file is dated that is made in `folder` or above it, on `device`; None where none can be made."""
    for place in (folder, folder.parent):
        with suppress(OSError), tempfile.TemporaryFile(dir=place, prefix=TEMPORARY) as file:
            made = os.fstat(file.fileno())
            if made.st_dev == device:
                return made.st_mtime
    return None
