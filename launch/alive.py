"""Whether what a file tells is of now, and what was written first, by one clock.

Two machines' clocks may lie hours apart, so the times that records hold are compared only with others of
the same machine. Of all other files the file server's clock counts, which dates them as they are written:
against each other, or against a file that this machine has just made beside them.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

from vocl import claims
from vocl.files import TEMPORARY

STALE_S = 60.0  # without a heartbeat; it comes every ten seconds
KEPT_S = 10.0  # for which a reading of a file server's clock is kept
_read: dict[int, tuple[float, float]] = {}  # by device: a reading, and when by this machine's own count


def beats(folder: Path, beat: dict[str, Any] | None, stale_s: float = STALE_S) -> bool:
    """Whether the process lives that wrote the heartbeat `beat` of the run in `folder`, as far as this
    machine can tell."""
    if beat is None:
        return False
    if beat["host"] == os.uname().nodename:
        return claims.born(beat["pid"]) is not None and time.time() - beat["time"] < 10 * stale_s
    return is_recent(folder / "heartbeat.json", stale_s)


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
    """The time by the clock that dates files in `folder`. Who may write in no folder up to the results
    folder, and so can act on no answer, gets this machine's."""
    try:
        device = folder.stat().st_dev
    except OSError:
        return time.time()
    reading, at = _read.get(device, (0.0, float("-inf")))
    passed = time.monotonic() - at
    if passed > KEPT_S:
        for place in (folder, *folder.parents[:3]):
            try:
                with tempfile.TemporaryFile(dir=place, prefix=TEMPORARY) as file:
                    made = os.fstat(file.fileno())
            except OSError:
                continue
            if made.st_dev == device:
                _read[device] = made.st_mtime, time.monotonic()
                return made.st_mtime
        return time.time()
    return reading + passed
