"""Which process of this machine a number means: numbers are used again, start times are not."""

from __future__ import annotations

from pathlib import Path


def is_alive(pid: int | None, since: int | None) -> bool:
    """Whether process `pid` of this machine is alive and the one that started at `since` (`start_ticks`)."""
    return pid is not None and since is not None and start_ticks(pid) == since


def start_ticks(pid: int) -> int | None:
    """When process `pid` of this machine began, in ticks since boot; None if there is none.

    One that has ended is none, also while its parent has not asked how: an orphan's may never do so.
    """
    try:
        state, *facts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(facts[18]) if state not in "ZX" else None
    except (OSError, ValueError, IndexError):
        return None
