"""What a run has recorded of its attempts: one reader per kind of record, light enough for boards.

Each gives None for a record that a disk or a bad copy damaged, as for one that is absent: it takes
nothing from the checkpoints beside it, and nothing from other runs. Claims have their readers in
`vocl.rundir.claims`, results in `vocl.rundir.result`.
"""

from __future__ import annotations

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


def heartbeat(folder: str | Path) -> dict[str, Any] | None:
    """The last sign of life of the run in `folder`."""
    return record_or_none(f"{folder}/heartbeat.json", HEARTBEAT)


def event(path: str | Path) -> dict[str, Any] | None:
    """How an attempt started (NNNN-start.json), or how it ended."""
    return record_or_none(path, START if str(path).endswith("-start.json") else END)


def starts(folder: Path) -> list[dict[str, Any]]:
    """How the attempts of the run in `folder` started, oldest first; those that can be read."""
    found = [event(path) for path in sorted((folder / "events").glob("*-start.json"))]
    return [start for start in found if start is not None]
