"""Signs, in what a run logs, that it trains but does not learn what it should."""

from __future__ import annotations

import itertools
import math

from launch.run_states.recent import RecentReports
from vocl.rundir.records import Records

WARM_SHARE = 0.1  # of the steps: at first no slot has found anything yet
FEWEST = 10  # reports that a judgement of the loss needs
USED = 1.5  # slots
FULL = 0.98  # of the largest possible entropy
JUMP, RISE = 10.0, 0.5


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
    said = records.result or records.beat
    steps = said.steps if said else None
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
