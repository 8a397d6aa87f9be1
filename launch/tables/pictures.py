"""A picture per row of a table, drawn by child processes: drawing needs the model."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from launch.ablations.overrides import slug
from vocl.rundir.results_root import ResultsRoot

if TYPE_CHECKING:
    from launch.tables.scores import RunScores

SHOW = (sys.executable, "-m", "vocl.commands.launching", "show")


def draw(records: Sequence[RunScores], root: ResultsRoot, place: Path) -> int:
    """<place>/<row>.png, a contact sheet of each row's first finished run; names what it drew."""
    first: dict[str, RunScores] = {}
    for record in records:
        if record.state == "done":
            first.setdefault(record.spec.row, record)
    code = 0
    for row, record in first.items():
        path = place / f"{slug(row)}.png"
        command = [*SHOW, record.spec.id, f"runtime.root={root}", f"out={path}"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode == 0 and path.is_file():
            print(f"picture of {record.spec.label}: {path}")
        else:
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            print(f"no picture of {record.spec.label}: {lines[-1]}", file=sys.stderr)
            code = 1
    return code
