"""How the trials of a search stand, from the records of their runs, and what is to be done next.

Asynchronous successive halving (Li et al. 2020, arXiv 1810.05934): a trial trains to the first rung and
waits. Of those that have reached a rung one in `reduction_factor` goes on to the next, the best first, as
soon as it is known to be among them. Where none is, another trial begins.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launch.run_states.states import RunState
from launch.search.declared import Search
from launch.search.records import Trial
from vocl.rundir.result import find_score
from vocl.rundir.results_root import ResultsRoot
from vocl.rundir.run_dir import RunDir


@dataclass(frozen=True)
class Standing:
    """A trial, its value at each rung that it has reached (the last: the full schedule), why it has failed
    ("" if it has not), and its runs that have not reached its rung yet."""

    trial: Trial
    values: dict[int, float]
    failure: str
    left: list[str]

    @property
    def is_going(self) -> bool:
        """Whether something is to be done, or being done, about its runs."""
        return not self.failure and self.trial.rung not in self.values


def next_number(found: Sequence[Standing]) -> int:
    """Of a new trial: none that there is, whichever records were removed."""
    return 1 + max((each.trial.number for each in found), default=0)


def stand(
    search: Search,
    steps: Sequence[int],
    trials: Sequence[Trial],
    root: ResultsRoot,
    states: Mapping[str, RunState],
) -> list[Standing]:
    """How each of `trials` stands; `steps` are those of the rungs and of the full schedule."""
    found = []
    for trial in trials:
        runs = trial.run_ids.values()
        scores = {run: _scores(search, steps, root.run(run)) for run in runs}
        shared = [rung for rung in range(len(steps)) if all(rung in scores[run] for run in runs)]
        values = {rung: statistics.fmean(scores[run][rung] for run in runs) for rung in shared}
        failures = [(run, _failure(search, root.run(run), states[run], scores[run])) for run in runs]
        failure = "; ".join(f"{run}: {why}" for run, why in failures if why)
        left = [run for run in runs if trial.rung not in scores[run]]
        kept = {rung: value for rung, value in values.items() if math.isfinite(value)}
        found.append(Standing(trial, kept, failure, left))
    return found


def _scores(search: Search, steps: Sequence[int], run: RunDir) -> dict[int, float]:
    """The value of a run at each rung that it has reached: where it was scored there, or first after it."""
    result = run.result_or_none()
    ends = [(steps[-1], result.evals)] if result is not None else []
    said = [*((rung.step, rung.evals) for rung in run.rungs()), *ends]
    found = {}
    for number, step in enumerate(steps):
        evals = next((evals for at, evals in said if at >= step), None)
        if evals is not None:
            found[number] = _value(search, run, evals)
    return found


def _value(search: Search, run: RunDir, evals: Mapping[str, Any]) -> float:
    """The score that is searched for; NaN without one. Those of other splits do not count."""
    reports = run.reports(evals)
    own = {key: each for key, each in evals.items() if _split(reports.get(key)) == search.split}
    own = {key.partition(":")[0]: each for key, each in own.items()}
    place = find_score(own, search.metric)
    value = own[place[0]]["metrics"][place[1]] if place else None
    return math.nan if value is None else float(value)


def _split(report: Mapping[str, Any] | None) -> str | None:
    return report["eval"].get("split") if report else None


def _failure(search: Search, run: RunDir, state: RunState, scores: Mapping[int, float]) -> str:
    """Why a run says nothing and will not; "" while it may."""
    if state.name in ("failed", "blocked"):
        return state.reason or state.name
    if not any(math.isnan(value) for value in scores.values()):
        return ""
    result, rungs = run.result_or_none(), run.rungs()
    failed = result.failed if result is not None else rungs[-1].failed
    told = "; ".join(f"eval {name} failed: {why}" for name, why in failed.items())
    return told or f"{search.metric} is undefined, or not scored on {search.split}: vocl eval {run.id}"


def promoted(search: Search, count: int, found: Sequence[Standing]) -> Standing | None:
    """The trial that is to train to the next of `count` rungs, if any is known to deserve it. At the end,
    where nothing comes any more, that is one at least of each rung."""
    for rung in reversed(range(count - 1)):
        if each := _next(search, found, rung, 0):
            return each
    if len(found) < search.trials or any(each.is_going for each in found):
        return None
    return next(filter(None, (_next(search, found, rung, 1) for rung in range(count - 1))), None)


def _next(search: Search, found: Sequence[Standing], rung: int, least: int) -> Standing | None:
    """The best trial that waits at `rung`, if it is among those that may go on."""
    reached = [each for each in found if not each.failure and rung in each.values]
    quota = max(least, len(reached) // search.reduction_factor)
    return next((each for each in ranked(search, reached, rung)[:quota] if each.trial.rung == rung), None)


def ranked(search: Search, reached: Sequence[Standing], rung: int) -> list[Standing]:
    """Trials that have reached `rung`, the best first."""
    sign = -1 if search.maximizes else 1
    return sorted(reached, key=lambda each: (sign * each.values[rung], each.trial.number))


def best(search: Search, count: int, found: Sequence[Standing]) -> tuple[Standing, int] | None:
    """The best trial at the highest rung that any has reached, and that rung."""
    for rung in reversed(range(count)):
        if reached := [each for each in found if rung in each.values and not each.failure]:
            return ranked(search, reached, rung)[0], rung
    return None
