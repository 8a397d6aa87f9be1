"""What `vocl verify` found of released checkpoints: its records, and their table."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from launch.tables.claims import Claim, claims
from vocl.errors import UserError
from vocl.files import parse_json, read_bytes, write_json, write_text
from vocl.rundir.results_root import ResultsRoot

HEADER = ("method", "dataset", "reproduced?", "ours (published ± tolerance), x 100", "run", "code", "date")


def place(root: ResultsRoot) -> Path:
    """Where records and table lie."""
    return root.tables / "reproduced"


def keep(root: ResultsRoot, claim: Claim, record: dict[str, Any]) -> None:
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


def _not_yet(claim: Claim) -> tuple[str, ...]:
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
