"""What a finished run says, as result.json holds it; `vocl.rundir.run_dir` reads and writes the file.

Imports next to nothing at first: boards ask it about a thousand runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import NoneType
from typing import Any, Literal

from vocl.files import NUMBER, Kinds, holds, is_a
from vocl.measure import Measure

SCHEMA = 1
RESULT: Kinds = {
    "run_id": str,
    "metrics": dict,
    "evals": dict,
    "failed": (dict, NoneType),  # {name: why} of the run's own evaluations that say nothing
    "seed": (int, NoneType),
    "steps": (int, NoneType),
    "wall_s": (*NUMBER, NoneType),
    "gpu_hours": (*NUMBER, NoneType),
    "code": (str, NoneType),
}
# on nothing here hangs what becomes of a run
FACTS: Kinds = {
    "schema": int,
    "cell_id": (str, NoneType),
    "attempts": (int, NoneType),
    "device": (str, NoneType),
}
ENTRY: Kinds = {
    "eval_id": str,
    "protocol": (str, NoneType),
    "num_videos": int,
    "metrics": dict,
    "measures": (dict, NoneType),  # {metric: fields of a Measure}, of those that are not plain fractions
    "rows": str,
}
REPORT: Kinds = {**ENTRY, "eval": dict}
SCORE = (*NUMBER, NoneType)  # null: undefined
RUN_ID = re.compile("[0-9a-f]{10}")
DAMAGED = "result.json damaged"  # the reason of a run's state
PLAIN = Measure()
# Models that are scored beside the trained one: before its first step, and as the best probe found it. The
# checkpoint of their evaluations is "untrained", and "best-<digest>".
Which = Literal["", "untrained", "best"]
UNTRAINED: Which = "untrained"
BEST: Which = "best"


def which_of(checkpoint: Any) -> Which:
    """Which model the checkpoint of an evaluation is; "": the trained one."""
    if checkpoint == UNTRAINED:
        return UNTRAINED
    return BEST if str(checkpoint).startswith(f"{BEST}-") else ""


@dataclass(frozen=True)
class Result:
    """What a finished run says. `evals`: an entry (`ENTRY`) per evaluation, those of the run's own config
    first; `metrics`: the scores of the first one; `failed`: why others of its own say nothing."""

    run_id: str
    metrics: dict[str, float | None]
    evals: dict[str, dict[str, Any]]
    failed: dict[str, str] = field(default_factory=dict)
    schema: int = SCHEMA
    cell_id: str | None = None
    seed: int | None = None
    steps: int | None = None
    attempts: int | None = None
    wall_s: float | None = None
    gpu_hours: float | None = None
    device: str | None = None
    code: str | None = None  # digest: `vocl.rundir.provenance.code_digest`
    others: dict[str, Any] = field(default_factory=dict)  # what another version wrote beside these

    @classmethod
    def of_json(cls, content: Any) -> Result | None:
        """The result that a file holds; None where something that is relied on is not there, or of another
        kind."""
        if not _is_whole(content):
            return None
        odd = [key for key, kind in FACTS.items() if not is_a(content.get(key), kind)]  # as if they lacked
        known = {key: content[key] for key in FIELDS if key in content and key not in odd}
        others = {key: content[key] for key in content.keys() - {*FIELDS, "failed"}}
        return cls(**known | {"failed": content.get("failed") or {}, "others": others})

    def to_json(self) -> dict[str, Any]:
        """What the file holds."""
        content = {key: getattr(self, key) for key in FIELDS}
        return content | ({"failed": self.failed} if self.failed else {}) | self.others

    def is_not_of(self, name: str, seed: int | None) -> str:
        """Why this is not the result of the run in folder `name`, which may be a copy by any other name,
        with `seed` if that is known; or ""."""
        if self.run_id != name and RUN_ID.fullmatch(self.run_id) and RUN_ID.fullmatch(name):
            return f"damaged, that of another run, {self.run_id}"
        if None not in (seed, self.seed) and seed != self.seed:
            return f"damaged, says seed {self.seed} where the run has {seed}; remove it"
        return ""

    @property
    def scores(self) -> dict[str, float | None]:
        """Every score: those of the first evaluation by their names, the others' as <evaluation>/<metric>."""
        found = {}
        for number, (name, entry) in enumerate(self.evals.items()):
            for metric, value in entry["metrics"].items():
                found[f"{name}/{metric}" if number else metric] = value
        return found

    def with_evals(self, evals: Mapping[str, Any], failed: Mapping[str, str], own: Iterable[str]) -> Result:
        """This result with the evaluations `evals`, those of the run's `own` config first and in its order,
        and why those in `failed` say nothing.

        `metrics` are the first one's; none as long as the first of `own` has failed.
        """
        own = list(own)
        ordered = {**{name: evals[name] for name in own if name in evals}, **evals}
        first = own[0] if own and own[0] in failed else next(iter(ordered), None)
        metrics = ordered[first]["metrics"] if first in ordered else {}
        return replace(self, metrics=metrics, evals=ordered, failed=dict(failed))


# in the order of the file
FIELDS = (
    *("schema", "run_id", "cell_id", "seed", "steps", "attempts", "wall_s", "gpu_hours", "device", "code"),
    *("metrics", "evals"),
)


def _is_whole(content: Any) -> bool:
    """Whether everything that is relied on is there, and of the right kind."""
    return (
        holds(content, RESULT)
        and all(isinstance(why, str) for why in (content.get("failed") or {}).values())
        and all(holds(entry, ENTRY) for entry in content["evals"].values())
        and all(
            is_a(score, SCORE)
            for found in (content, *content["evals"].values())
            for score in found["metrics"].values()
        )
    )


def measure(entry: Mapping[str, Any], metric: str) -> Measure:
    """How the score `metric` of an entry is read."""
    said = (entry.get("measures") or {}).get(metric)
    if said is None:
        return PLAIN
    kinds: Kinds = {"higher_is_better": (bool, NoneType), "scale": NUMBER, "digits": (int, NoneType)}
    if not holds(said, kinds) or (said.get("digits") or 0) not in range(10):
        return PLAIN
    fields: dict[str, Any] = {key: said.get(key) for key in kinds}
    return Measure(**fields)


def find_score(evals: Mapping[str, Any], metric: str) -> tuple[str, str] | None:
    """The evaluation and its metric that a name means: <evaluation>/<metric>, else the first evaluation
    that has it; None where there is none."""
    for name, entry in evals.items():
        if metric in entry["metrics"]:
            return name, metric
    if "/" in metric:
        for name, entry in evals.items():
            if metric.startswith(f"{name}/") and (own := metric[len(name) + 1 :]) in entry["metrics"]:
                return name, own
    return None


RUNG: Kinds = {"step": int, "evals": dict, "failed": dict}


@dataclass(frozen=True)
class Rung:
    """The scores of the state after `step` steps: an entry (`vocl.rundir.result.ENTRY`) per evaluation, and
    why others say nothing."""

    step: int
    evals: dict[str, dict[str, Any]]
    failed: dict[str, str]

    @classmethod
    def of_json(cls, content: Any) -> Rung | None:
        """The rung that a file holds; None where something that is relied on is not there."""
        if not holds(content, RUNG) or not all(holds(entry, ENTRY) for entry in content["evals"].values()):
            return None
        return cls(**{key: content[key] for key in RUNG})
