"""The best and the worst videos of a run, by the rows of an evaluation that it keeps. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vocl.config.check import check
from vocl.config.run_config import RunConfig
from vocl.errors import UserError, near
from vocl.files import is_number
from vocl.rundir.result import find_score, measure
from vocl.rundir.run_dir import RunDir


@dataclass(frozen=True)
class Ranking:
    """So many of the best and the worst videos `by` a metric, [evaluation/]metric."""

    best: int = 0
    worst: int = 0
    by: str | None = None

    def __bool__(self) -> bool:
        return self.best > 0 or self.worst > 0


UNRANKED = Ranking()


@dataclass(frozen=True)
class Ranked:
    """`videos`: (name, score), the best ones first, then the worst ones, the worst first; `config`: the
    run's with `evaluation` alone, as it was when that scored them."""

    videos: list[tuple[str, float]]
    metric: str
    evaluation: str
    config: RunConfig


def ranked(run: RunDir, config: RunConfig, ranking: Ranking) -> Ranked:
    """The videos of `run` that `ranking` asks for. UserError where no rows say."""
    try:
        evals = run.result().evals
    except OSError:
        raise UserError(f"{run}: has no scores yet") from None
    reports = run.reports(evals)
    kept = {key: evals[key] for key in reports}
    names = sorted({metric for entry in kept.values() for metric in entry["metrics"]})
    metric = ranking.by or ""
    found = find_score(kept, metric)
    rows = run.rows(kept[found[0]]["eval_id"]) if found else []
    scored = [(row["video"], row[found[1]]) for row in rows if found and is_number(row.get(found[1]))]
    if found is None or not scored:
        why = "no evaluation that the run keeps has rows of this metric"
        raise UserError(f"--by {metric}: {why}, choose from {', '.join(names)}{near(metric, names)}")
    key, own = found
    sign = 1 if measure(kept[key], own).higher_is_better is False else -1
    order = sorted(scored, key=lambda pair: (sign * pair[1], pair[0]))
    best = order[: ranking.best]
    worst = [pair for pair in order[::-1][: ranking.worst] if pair not in best]
    name = key.partition(":")[0]
    return Ranked([*best, *worst], own, name, _with(config, name, reports[key]))


def _with(config: RunConfig, name: str, report: dict[str, Any]) -> RunConfig:
    return check(config.content | {"eval": {name: report["eval"]}})
