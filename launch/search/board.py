"""A search as lines: its trials with their values, and the best as overrides."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence

from launch.escape import one_line
from launch.run_states import text_table
from launch.search.progress import Progress
from launch.search.standing import Standing, best

ORDER = ("done", "going", "waits", "pruned", "failed")


def table(progress: Progress, found: Sequence[Standing]) -> list[str]:
    """A line per trial: its state, its value at each rung, what it tries, its runs."""
    steps = [str(step) for step in progress.steps]
    headers = ("trial", "state", *steps, *progress.search.space, "run ids", "reason")
    over = progress.is_over(list(found))
    rows = []
    for each in found:
        values = [f"{each.values[rung]:.4f}" if rung in each.values else "" for rung in range(len(steps))]
        params = [one_line(_short(each.trial.params.get(key, ""))) for key in progress.search.space]
        reason = text_table.cut(one_line(each.failure), 60)
        runs = " ".join(each.trial.run_ids.values())
        rows.append([str(each.trial.number), _state(each, progress, over), *values, *params, runs, reason])
    head = f"{progress.search.title}: {progress.search.metric} on {progress.search.split}, by steps"
    return [head, *(text_table.align(headers, rows) if rows else [])]


def summary(progress: Progress, found: Sequence[Standing]) -> str:
    """One line about all trials."""
    over = progress.is_over(list(found))
    counts = Counter(_state(each, progress, over) for each in found)
    told = ", ".join(f"{counts[name]} {name}" for name in ORDER if counts[name])
    return f"{len(found)} of {progress.search.trials} trials" + (f": {told}" if told else "")


def best_lines(progress: Progress, found: Sequence[Standing]) -> list[str]:
    """The best trial, and the overrides that say it."""
    chosen = best(progress.search, len(progress.steps), found)
    if chosen is None:
        return []
    each, rung = chosen
    so_far = "" if progress.is_over(list(found)) else " so far"
    value, step = f"{progress.search.metric} {each.values[rung]:.4f}", progress.steps[rung]
    base = [f"{key}={value}" for key, value in progress.search.base.items()]
    return [
        f"best{so_far}: trial {each.trial.number}, {value} on {progress.search.split} after {step} steps",
        shlex.join([*base, *progress.trained, *each.trial.words]),
    ]


def _state(each: Standing, progress: Progress, over: bool) -> str:
    if each.failure:
        return "failed"
    if len(progress.steps) - 1 in each.values:
        return "done"
    if each.is_going:
        return "going"
    return "pruned" if over else "waits"


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
