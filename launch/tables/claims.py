"""What releases claim: the section `verify` of conf/published/METHOD.yaml, whose scores `published` reads.

    protocol: slotcurri        # conf/eval/protocol/NAME.yaml, by default that of the method's name
    verify:
      DATASET: {row: ..., column: ..., tolerance: {METRIC: FRACTION}, note: ...}
    importer: METHOD           # whose names its checkpoints have; without it: its own
    no_importer: why no checkpoint of the method can be read    # until one can

DATASET is the last part of the method's experiment; row and column are a row and a dataset of the file. The
file, the experiment and the importer may be of a project (`project=PATH`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from launch.ablations.overrides import known_keys, mapping
from launch.tables import published
from vocl.config.compose import group_choices
from vocl.errors import UserError
from vocl.files import NUMBER, is_a

CLAIM = ("row", "column", "tolerance", "note")
Findings = dict[str, dict[str, Any]]  # by metric: ours, published, tolerance, within


@dataclass(frozen=True)
class Claim:
    """Published scores of one checkpoint (fractions), and how far off ours may be."""

    method: str
    dataset: str
    protocol: str
    published: dict[str, float]
    tolerance: dict[str, float]
    note: str | None
    importer: str
    no_importer: str | None

    @property
    def name(self) -> str:
        """METHOD/DATASET, which is also the experiment's name."""
        return f"{self.method}/{self.dataset}"

    def compare(self, ours: Mapping[str, float | None]) -> Findings:
        """Each claimed score beside ours; `UserError` for one that no evaluation gives."""
        found: Findings = {}
        for metric, tolerance in self.tolerance.items():
            if metric not in ours:
                known = ", ".join(sorted(ours)) or "none"
                raise UserError(f"verify {self.name}: no evaluation gives {metric}, choose from {known}")
            own, published = ours[metric], self.published[metric]
            number = own if own is not None and math.isfinite(own) else math.inf
            within = abs(number - published) <= tolerance + 1e-9  # sums of decimals round
            found[metric] = {"ours": own, "published": published, "tolerance": tolerance, "within": within}
        return found


def claims(project: str | None) -> dict[str, dict[str, Claim]]:
    """All claims, by method and dataset; methods without any are left out."""
    found = {method: _claims(method, project) for method in group_choices("published", project)}
    return {method: own for method, own in found.items() if own}


def claimed(name: str, project: str | None) -> Claim:
    """The claim METHOD/DATASET; `UserError` with the choices."""
    known = claims(project)
    method, _, dataset = name.partition("/")
    if method not in known:
        raise UserError(f"verify {name}: no such method, choose from {', '.join(known)}")
    if dataset not in known[method]:
        choices = ", ".join(f"{method}/{other}" for other in known[method])
        raise UserError(f"verify {name}: no such dataset, choose from {choices}")
    return known[method][dataset]


def _claims(method: str, project: str | None) -> dict[str, Claim]:
    path, content = published.contents(method, project)
    places: dict[str, dict[str, dict[str, float]]] = {}
    for score in published.scores(method, project):
        places.setdefault(score.row, {}).setdefault(score.dataset, {}).setdefault(score.metric, score.value)
    found = {}
    for dataset, node in mapping(content.get("verify"), f"{path}: verify").items():
        where = f"{path}: verify.{dataset}"
        own = mapping(node, where)
        known_keys(own, CLAIM, where)
        columns = _choose(places, own.get("row"), f"{where}.row")
        stated = _choose(columns, own.get("column"), f"{where}.column")
        found[dataset] = Claim(
            method=method,
            dataset=dataset,
            protocol=content.get("protocol", method),
            published=stated,
            tolerance=_tolerance(own.get("tolerance"), stated, f"{where}.tolerance"),
            note=own.get("note"),
            importer=content.get("importer", method),
            no_importer=content.get("no_importer"),
        )
    return found


def _tolerance(node: Any, stated: Mapping[str, float], where: str) -> dict[str, float]:
    tolerance = dict(mapping(node, where))
    for metric, value in tolerance.items():
        _choose(stated, metric, where)
        if not (is_a(value, NUMBER) and value >= 0):
            raise UserError(f"{where}.{metric}={value}: expected a fraction >= 0")
    if not tolerance:
        raise UserError(f"{where}: missing or empty")
    return tolerance


def _choose(node: Mapping[str, Any], key: Any, where: str) -> Any:
    if key not in node:
        raise UserError(f"{where}={key}: no such name, choose from {', '.join(node)}")
    return node[key]
