"""How far a run has come, and whether that is further than before: by steps, never by the clocks of two
machines."""

from __future__ import annotations

import os
from pathlib import Path

from launch.run_states import alive
from vocl.rundir import events
from vocl.rundir.checkpoint_files import newest_step
from vocl.rundir.claims import Claim

Mark = tuple[int, int, int]


def mark(run: Path) -> Mark:
    """Steps saved by the run in folder `run`, evaluations of it, and features kept in its results folder."""
    scored = sum(1 for _ in (run / "eval").glob("*/report.json"))
    kept = sum(len(files) for _, _, files in os.walk(run.parent.parent / "features"))
    return newest_step(run / "checkpoints") or 0, scored, kept


def progressed(run: Path, claim: Claim) -> bool:
    """Whether the attempts under `claim` brought the run further: a later checkpoint, or an evaluation."""
    paths = sorted((run / "events").glob("*-start.json"))
    starts = [events.event(path) for path in paths if not alive.is_later(claim.path, path)]
    steps = [start["step"] for start in starts if start is not None]
    if not steps:
        return False
    scored = any(alive.is_later(path, claim.path) for path in (run / "eval").glob("*/report.json"))
    return scored or (newest_step(run / "checkpoints") or 0) > steps[0]


def is_further(now: Mark, before: Mark) -> bool:
    """Whether a run has got anywhere from `before` to `now`."""
    return any(new > old for new, old in zip(now, before, strict=True))
