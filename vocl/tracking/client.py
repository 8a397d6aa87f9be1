"""What a mirror asks of a tracker's client: the one interface between vocl and W&B or trackio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from vocl.tracking.media import Picture

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Opened:
    """What a tracker is told of a run: an `id` that stays for ever, and what people see of it."""

    id: str
    name: str
    group: str | None = None
    kind: str | None = None
    config: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Known:
    """What a tracker has of a run already: rows up to `step` (-1: none), its pictures, names of files."""

    step: int = -1
    pictures: bool = False
    files: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a run stands as its mirror ends. `is_complete`: its records will not be cut back any more."""

    step: int  # the last that was shown
    outcome: str
    is_done: bool
    is_complete: bool
    scores: dict[str, Any] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)  # what tells later whether all of it was shown


class Client(Protocol):
    """Shows one run, or one table, on a tracker. Each method may raise whatever the tracker raises."""

    def open(self, opened: Opened) -> Known:
        """Open the run, or go on with it; returns what the tracker has of it."""
        ...

    def log(self, step: int, row: Row, pictures: Sequence[Picture] = ()) -> None:
        """Show the numbers, and pictures, of a step, which is larger than that of any call before."""
        ...

    def show(self, step: int, pictures: Sequence[Picture]) -> None:
        """Show pictures, videos and pages at a step, as `log` does numbers."""
        ...

    def tabulate(self, step: int, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Show a table at a step, as `log` does numbers."""
        ...

    def keep(self, name: str, kind: str, files: Sequence[Path]) -> None:
        """Keep files as a new version of the artifact `name`, if their content is new."""
        ...

    def close(self, ending: Ending) -> None:
        """Show how the run stands, and wait until the tracker has everything."""
        ...
