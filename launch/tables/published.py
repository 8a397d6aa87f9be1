"""What releases claim, what `vocl verify` found of it, and the table of both.

Claims stand in conf/published/<method>.yaml beside the scores that tables show:

    protocol: NAME                                   # conf/eval/protocol/NAME.yaml
    verify:
      DATASET: {row: ..., column: ..., tolerance: {METRIC: FRACTION}, note: ...}
    importer: METHOD                                 # whose names its checkpoints have; without it: its own
    no_importer: why no checkpoint of the method can be read    # until one can

DATASET is the last part of the method's experiment; row and column are a place in `rows`. A METRIC is
<evaluation>/<metric>, or the bare name of the first evaluation's that has it. The file, the experiment
and the importer may be of a project (`project=PATH`).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.ablations.ablation import find
from launch.ablations.overrides import known_keys, mapping, read_mapping
from vocl.config.compose import group_choices
from vocl.errors import UserError
from vocl.files import parse_json, read_bytes, write_json, write_text
from vocl.rundir.results_root import ResultsRoot

CLAIM = ("row", "column", "tolerance", "note")
HEADER = ("method", "dataset", "reproduced?", "ours (published ± tolerance), x 100", "run", "code", "date")
Findings = dict[str, dict[str, Any]]  # by metric: ours, published, tolerance, within


@dataclass(frozen=True)
class PublishedScores:
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


def claims(project: str | None) -> dict[str, dict[str, PublishedScores]]:
    """All claims, by method and dataset; methods without any are left out."""
    found = {method: _read(method, project) for method in group_choices("published", project)}
    return {method: own for method, own in found.items() if own}


def claimed(name: str, project: str | None) -> PublishedScores:
    """The claim METHOD/DATASET; `UserError` with the choices."""
    known = claims(project)
    method, _, dataset = name.partition("/")
    if method not in known:
        raise UserError(f"verify {name}: no such method, choose from {', '.join(known)}")
    if dataset not in known[method]:
        choices = ", ".join(f"{method}/{other}" for other in known[method])
        raise UserError(f"verify {name}: no such dataset, choose from {choices}")
    return known[method][dataset]


def _read(method: str, project: str | None) -> dict[str, PublishedScores]:
    path = find("published", method, project)
    content = read_mapping(path)
    rows = mapping(content.get("rows"), f"{path}: rows")
    found = {}
    for dataset, node in mapping(content.get("verify"), f"{path}: verify").items():
        where = f"{path}: verify.{dataset}"
        own = mapping(node, where)
        known_keys(own, CLAIM, where)
        columns = _choose(rows, own.get("row"), f"{where}.row")
        published = _choose(mapping(columns, where), own.get("column"), f"{where}.column")
        tolerance = mapping(own.get("tolerance"), f"{where}.tolerance")
        for metric, value in tolerance.items():
            _choose(published, metric, f"{where}.tolerance")
            if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
                raise UserError(f"{where}.tolerance.{metric}={value}: expected a fraction >= 0")
        if not tolerance:
            raise UserError(f"{where}.tolerance: missing or empty")
        found[dataset] = PublishedScores(
            method=method,
            dataset=dataset,
            protocol=content.get("protocol", method),
            published=dict(published),
            tolerance=dict(tolerance),
            note=own.get("note"),
            importer=content.get("importer", method),
            no_importer=content.get("no_importer"),
        )
    return found


def _choose(node: Mapping[str, Any], key: Any, where: str) -> Any:
    if key not in node:
        raise UserError(f"{where}={key}: no such name, choose from {', '.join(node)}")
    return node[key]


# ------------------------------------------------------------------------------- records and their table


def place(root: ResultsRoot) -> Path:
    """Where records and table lie."""
    return root.tables / "reproduced"


def keep(root: ResultsRoot, claim: PublishedScores, record: dict[str, Any]) -> None:
    """Keep `record` of `claim`, in place of an earlier one under the same settings."""
    name = claim.dataset
    if record["settings"]:
        name += f"-{hashlib.blake2b(' '.join(record['settings']).encode(), digest_size=4).hexdigest()}"
    write_json(place(root) / claim.method / f"{name}.json", record)


def write(root: ResultsRoot, project: str | None) -> str:
    """Write <root>/tables/reproduced/table.md of all claims; returns its text."""
    lines: list[tuple[str, ...]] = [HEADER]
    for method, own in claims(project).items():
        records = [_load(path) for path in sorted((place(root) / method).glob("*.json"))]
        for dataset, claim in own.items():
            fitting = [r for r in records if r["dataset"] == dataset]
            lines += [_row(record) for record in sorted(fitting, key=lambda r: r["settings"])]
            if all(record["settings"] for record in fitting):
                lines.append(_not_yet(claim))
    text = _markdown(lines) + "\n"
    write_text(place(root) / "table.md", text)
    return text


def _load(path: Path) -> dict[str, Any]:
    try:
        record = parse_json(read_bytes(path))
        _row(record)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not a record of vocl verify: {type(error).__name__}: {error}") from None
    return record


def _row(record: dict[str, Any]) -> tuple[str, ...]:
    scores = ", ".join(f"{m} {_percent(f['ours'], 2)} {_around(f)}" for m, f in record["metrics"].items())
    settings = f" with {' '.join(record['settings'])}" if record["settings"] else ""
    yes, no = ("within", "outside") if settings else ("yes", "no")  # other settings reproduce no paper
    verdict = yes if record["within"] else no
    code, date = record["code"], record["date"][:10]
    return record["method"], record["dataset"] + settings, verdict, scores, record["run"], code, date


def _not_yet(claim: PublishedScores) -> tuple[str, ...]:
    scores = {m: {"published": claim.published[m], "tolerance": t} for m, t in claim.tolerance.items()}
    spelt = ", ".join(f"{metric} -- {_around(found)}" for metric, found in scores.items())
    verdict = "no importer yet" if claim.no_importer else "not yet run"
    return claim.method, claim.dataset, verdict, spelt, "", "", ""


def _around(found: Mapping[str, Any]) -> str:
    return f"({_percent(found['published'], 1)} ± {_percent(found['tolerance'], 1)})"


def _percent(value: float | None, digits: int) -> str:
    return "--" if value is None else f"{100 * value:.{digits}f}"


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    widths = [max(len(line[i]) for line in escaped) for i in range(len(HEADER))]
    rows = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in escaped]
    return "\n".join(
        f"| {' | '.join(row)} |" for row in (rows[0], ["-" * width for width in widths], *rows[1:])
    )
