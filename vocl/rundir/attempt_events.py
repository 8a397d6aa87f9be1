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

from vocl.files import NUMBER, Kinds, holds, record_or_none

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


PROBE: Kinds = {"step": int, "metric": str, "score": (*NUMBER, NoneType)}


@dataclass(frozen=True)
class ProbeScore:
    """What a probe after `step` steps says in a word; `metric` is EVALUATION/SCORE, None an undefined one."""

    step: int
    metric: str
    score: float | None

    @classmethod
    def of_json(cls, content: Any) -> ProbeScore | None:
        """What a record holds; None without one."""
        return cls(**{key: content[key] for key in PROBE}) if holds(content, PROBE) else None


@dataclass(frozen=True)
class Heartbeat:
    """A sign of life of attempt `attempt`: its process, how far it is, and the newest probe."""

    attempt: int
    step: int
    steps: int
    time: float  # by the clock of `host`
    pid: int
    host: str
    probe: ProbeScore | None = None

    @classmethod
    def of_json(cls, content: dict[str, Any] | None) -> Heartbeat | None:
        """What the file holds; None without content."""
        if not content:
            return None
        return cls(**{key: content[key] for key in HEARTBEAT}, probe=ProbeScore.of_json(content.get("probe")))

    @classmethod
    def now(cls, attempt: int, step: int, steps: int, probe: ProbeScore | None = None) -> Heartbeat:
        """One of this process."""
        return cls(attempt, step, steps, time.time(), os.getpid(), os.uname().nodename, probe)

    def age_s(self) -> float:
        """Seconds since it was written, by this machine's clock: for its own alone."""
        return time.time() - self.time


def event(path: str | Path) -> dict[str, Any] | None:
    """How an attempt started (NNNN-start.json), or how it ended."""
    return record_or_none(path, START if str(path).endswith("-start.json") else END)
