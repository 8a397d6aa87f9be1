"""How far a run has come, and whether that is further than before: by steps, never by the clocks of two
machines."""

from __future__ import annotations

import os

from vocl.rundir import attempt_events, file_times
from vocl.rundir.claims import Claim
from vocl.rundir.results_root import root_of
from vocl.rundir.run_dir import RunDir

Mark = tuple[int, int, int]


def mark(run: RunDir) -> Mark:
    """Steps saved by `run`, evaluations of it, and features kept in its results folder."""
    scored = sum(1 for _ in run.evaluations.glob("*/report.json"))
    kept = sum(len(files) for _, _, files in os.walk(root_of(run).features))
    return run.newest_step() or 0, scored, kept


def progressed(run: RunDir, claim: Claim) -> bool:
    """Whether the attempts under `claim` brought the run further: a later checkpoint, or an evaluation."""
    paths = sorted(run.events.glob("*-start.json"))
    starts = [attempt_events.event(path) for path in paths if not file_times.is_later(claim.path, path)]
    steps = [start["step"] for start in starts if start is not None]
    if not steps:
        return False
    scored = any(file_times.is_later(path, claim.path) for path in run.evaluations.glob("*/report.json"))
    return scored or (run.newest_step() or 0) > steps[0]


def is_further(now: Mark, before: Mark) -> bool:
    """Whether a run has got anywhere from `before` to `now`."""
    return any(new > old for new, old in zip(now, before, strict=True))
