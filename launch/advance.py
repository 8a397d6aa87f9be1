"""How far a run has come, and whether that is further than before: by steps, never by the clocks of two
machines."""

from __future__ import annotations

import os
from pathlib import Path

from vocl.saved import newest_step

Mark = tuple[int, int, int]


def mark(run: Path) -> Mark:
    """Steps saved by the run in folder `run`, evaluations of it, and features kept in its results folder."""
    scored = sum(1 for _ in (run / "eval").glob("*/report.json"))
    kept = sum(len(files) for _, _, files in os.walk(run.parent.parent / "features"))
    return newest_step(run / "checkpoints") or 0, scored, kept


def is_further(now: Mark, before: Mark) -> bool:
    """Whether a run has got anywhere from `before` to `now`."""
    return any(new > old for new, old in zip(now, before, strict=True))
