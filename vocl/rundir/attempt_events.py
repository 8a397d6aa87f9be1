"""What a run has recorded of its attempts: one reader per kind of record, light enough for boards.

Each gives None for a record that a disk or a bad copy damaged, as for one that is absent: it takes
nothing from the checkpoints beside it, and nothing from other runs. Claims have their readers in
`vocl.rundir.claims`, results in `vocl.rundir.result`.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

from vocl.files import NUMBER, Kinds, record_or_none

HEARTBEAT: Kinds = {"attempt": int, "step": int, "steps": int, "time": NUMBER, "pid": int, "host": str}
START: Kinds = {
    "attempt": int,
    "time": NUMBER,
    "step": int,
    "world": int,
    "device": str,
    "threads": (int, NoneType),
    "command": (list, NoneType),
}
END: Kinds = {
    "time": NUMBER,
    "outcome": str,
    "wall_s": (*NUMBER, NoneType),
    "where": (str, NoneType),  # of a crash: file and line
}


@dataclass(frozen=True)
class Heartbeat:
    """A sign of life of attempt `attempt`: its process, and how far it is."""

    attempt: int
    step: int
    steps: int
    time: float  # by the clock of `host`
    pid: int
    host: str

    @classmethod
    def of_json(cls, content: dict[str, Any] | None) -> Heartbeat | None:
        """What the file holds; None without content."""
        return cls(**{key: content[key] for key in HEARTBEAT}) if content else None

    @classmethod
    def now(cls, attempt: int, step: int, steps: int) -> Heartbeat:
        """One of this process."""
        return cls(attempt, step, steps, time.time(), os.getpid(), os.uname().nodename)

    def age_s(self) -> float:
        """Seconds since it was written, by this machine's clock: for its own alone."""
        return time.time() - self.time


def event(path: str | Path) -> dict[str, Any] | None:
    """How an attempt started (NNNN-start.json), or how it ended."""
    return record_or_none(path, START if str(path).endswith("-start.json") else END)
