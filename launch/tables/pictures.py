"""A picture per row and column of a table, drawn by child processes: drawing needs the model."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from launch.ablations.overrides import slug
from launch.tables.model import Place
from vocl.rundir.results_root import ResultsRoot

if TYPE_CHECKING:
    from launch.tables.scores import RunScores

SHOW = (sys.executable, "-m", "vocl.commands.launching", "show")


def draw(records: Sequence[RunScores], root: ResultsRoot, place: Path) -> dict[Place, Path]:
    """<place>/<row>.png, a contact sheet of the first finished run of each row (and column, where there are
    several); names what it drew."""
    first: dict[tuple[str, str], RunScores] = {}
    for record in records:
        if record.state == "done":
            first.setdefault((record.spec.row, record.spec.column), record)
    several = len({column for _, column in first}) > 1
    drawn: dict[Place, Path] = {}
    for (row, column), record in first.items():
        path = place / f"{slug(f'{row} {column}' if several else row)}.png"
        command = [*SHOW, record.spec.id, f"runtime.root={root}", f"out={path}"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode == 0 and path.is_file():
            drawn[row, column, ""] = path
            print(f"picture of {record.spec.label}: {path}")
        else:
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            print(f"no picture of {record.spec.label}: {lines[-1]}", file=sys.stderr)
    return drawn
