"""Signs, in what a run logs, that it trains but does not learn what it should."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from pathlib import Path

from launch.run_states.recent import RecentReports
from launch.run_states.remembered import Mark, mark, remembered
from launch.run_states.states import RunState
from vocl.rundir import records as records_of_runs
from vocl.rundir.records import Records
from vocl.rundir.results_root import ResultsRoot

WARM_SHARE = 0.1  # of the steps: at first no slot has found anything yet
FEWEST = 10  # reports that a judgement of the loss needs
USED = 1.5  # slots
FULL = 0.98  # of the largest possible entropy
JUMP, RISE = 10.0, 0.5
CODE = (Path(__file__).parent, Path(records_of_runs.__file__).parent)  # what tells flags from files


def flags_of(root: ResultsRoot, states: Mapping[str, RunState]) -> dict[str, list[str]]:
    """`flags` of each run, by its id; where a run does not train and its files are as they were when it was
    looked at before, what was found then."""
    records = {run: state.records for run, state in states.items() if state.records is not None}
    marks = {run: None if states[run].name == "running" else _mark(own) for run, own in records.items()}
    return remembered(root, "health", CODE, marks, lambda run: flags(records[run]))


def _mark(records: Records) -> Mark | None:
    """What changes where that does from which `flags` follow."""
    files = mark(records.run.metrics_path, records.run.config_path)
    return None if files is None else [*files, _steps(records) or 0]


def _steps(records: Records) -> int | None:
    """How many steps the training takes, as far as is known."""
    said = records.result or records.beat
    return said.steps if said else None


def flags(records: Records) -> list[str]:
    """What is suspicious about a run; empty where nothing is.

    Collapsed slots, from the last five reports once a tenth of the steps is done: fewer than 1.5
    slots win any patch on average, or the masks have at least 0.98 of the entropy ln k of k equal
    masks (k = model.num_slots; larger values mean that the run has more slots and say nothing).

    Loss spike, from the reports in the last 32 KB of the log that are of the present stage, where
    there are ten or more: the loss rises above its lowest value so far by more than 10 times the
    median change between successive reports *and* by more than half of its median. Medians make the
    test robust: neither noise nor the fall at the beginning raises a flag, one outlier hides no other.
    """
    recent = RecentReports(records)
    return [found for found in (_collapse(records, recent), _spike(recent)) if found]


def _collapse(records: Records, recent: RecentReports) -> str | None:
    reports = [each for each in recent.last("slots_used", "mask_entropy") if "slots_used" in each]
    steps = _steps(records)
    if not reports or not steps or reports[0]["step"] < WARM_SHARE * steps:
        return None
    import statistics  # a board of runs that report nothing starts without it

    used = statistics.fmean(report["slots_used"] for report in reports)
    entropy = statistics.fmean(report.get("mask_entropy") or 0.0 for report in reports)
    if used >= USED and entropy < FULL * math.log(2):
        return None
    slots = records.num_slots
    if slots == 1:
        return None
    if used < USED:
        return f"slots collapsed: {used:.1f} of {slots or 'all'} slots win a patch"
    if slots and FULL <= entropy / math.log(slots) <= 1.001:
        return (
            f"slots collapsed: mask entropy {entropy:.2f} of at most {math.log(slots):.2f}, all masks alike"
        )
    return None


def _spike(recent: RecentReports) -> str | None:
    losses = recent.losses()
    if len(losses) < FEWEST:
        return None
    import statistics

    values = [loss for _, loss in losses]
    least = RISE * abs(statistics.median(values))
    if max(values) - min(values) <= least:  # so are most runs, and nothing more is counted
        return None
    changes = [abs(b - a) for a, b in itertools.pairwise(values)]
    threshold = max(JUMP * statistics.median(changes), least)
    lowest = highest = values[0]
    worst = None
    for step, value in losses:
        lowest = min(lowest, value)
        if value - lowest > threshold and (worst is None or value > highest):
            worst, highest = (step, lowest), value
    if worst is None:
        return None
    back = "" if values[-1] - worst[1] > threshold else ", and came back"
    return f"loss spike: {worst[1]:.4g} to {highest:.4g} at step {worst[0]}{back}"
