"""Rows of text in columns, at the width they need: for terminals, pipes and grep alike.

Written out, because a rich table of a thousand rows takes 0.7 s to lay out and a status must be quick.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections.abc import Sequence

from launch.escape import one_line
from vocl.errors import printable

COLOURS = {
    "done": "32",
    "running": "36",
    "queued": "34",
    "waiting": "34",
    "blocked": "33",
    "interrupted": "33",
    "failed": "31",
    "absent": "2",
    "warning:": "33",
}


def align(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A line per row below a line of headers; columns that are empty in all rows are left out."""
    kept = [i for i in range(len(headers)) if any(row[i] for row in rows)]
    lines = [[headers[i] for i in kept], *([_safe(row[i]) for i in kept] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shape = "  ".join(f"{{:<{width}}}" for width in widths)
    return [shape.format(*line).rstrip() for line in lines]


def _safe(text: str) -> str:
    return text if text.isprintable() else one_line(text)


def write(lines: Sequence[str]) -> None:
    """Print lines; on a terminal with states in colour, and cut to its width unless they warn."""
    lines = [line if line.isprintable() else printable(line) for line in lines]
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        lines = [paint(line if line.startswith("warning:") else cut(line, width)) for line in lines]
    print("\n".join(lines), flush=True)


def cut(line: str, width: int) -> str:
    """`line` in at most `width` characters."""
    return line if len(line) <= width else f"{line[: width - 1]}…"


def paint(line: str) -> str:
    """`line` with the first word that names a state in its colour."""
    if "NO_COLOR" in os.environ:
        return line
    for word in line.split():
        if word in COLOURS:
            before, _, after = line.partition(word)
            return f"{before}\x1b[{COLOURS[word]}m{word}\x1b[0m{after}"
    return line


def duration(seconds: float | None) -> str:
    """As hours:minutes:seconds."""
    if seconds is None or not math.isfinite(seconds):
        return ""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def runs(number: int) -> str:
    """That many runs."""
    return f"{number} run{'' if number == 1 else 's'}"
