"""`vocl table`: from the records of runs to a table with mean, deviation and count per cell."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from launch import render
from launch.ablation import Ablation, TableSettings, find, table_settings
from launch.overrides import read_yaml
from launch.plan import Selection, Spec, run_folder, select
from launch.runs import read_table
from launch.states import look
from launch.stats import Summary, paired_difference, summarise
from vocl import result
from vocl.compose import project_of
from vocl.errors import UserError

UNSCORED = "unscored"  # trained, but not evaluated as its row asks


@dataclass(frozen=True)
class Record:
    """A run that the table wants: its state and, once done, its scores (fractions)."""

    spec: Spec
    state: str
    protocol: str | None
    metrics: dict[str, float | None]
    wall_s: float | None
    code: str | None


@dataclass(frozen=True)
class Cell:
    """One metric of a row in a column; numbers are scaled. `best`: none is shown higher in its column."""

    summary: Summary | None
    delta: Summary | None  # to the baseline row, paired by seed
    wanted: int  # seeds
    best: bool = False

    @property
    def complete(self) -> bool:
        """Whether every seed has a score."""
        return self.summary is not None and self.summary.n == self.wanted


@dataclass(frozen=True)
class Table:
    """Cells by (row, column, metric), published scores likewise, and what a reader must know.

    A place that the ablation excludes has no cell.
    """

    name: str
    ablation: Ablation
    settings: TableSettings
    cells: dict[tuple[str, str, str], Cell]
    published: dict[tuple[str, str, str], float]
    notes: list[str]

    @property
    def rows(self) -> list[list[str]]:
        """Rows in groups, as declared; what no group names comes last."""
        grouped = [row for group in self.settings.groups for row in group]
        rest = [row for row in self.ablation.rows if row not in grouped]
        return [group for group in (*self.settings.groups, rest) if group]


def main(arguments: Sequence[str]) -> int:
    """`vocl table NAME [table.KEY=VALUE ...] [overrides] [--pictures]`.

    Writes table.md, table.csv, table.tex and runs.csv to <runtime.root>/tables/NAME and prints the
    first. `--pictures` adds one contact sheet per row, from its first finished run.
    """
    plain = [a for a in arguments if not a.startswith("table.") and a != "--pictures"]
    selection = select(plain)
    chosen = selection.ablation
    if chosen is None:
        raise UserError("vocl table: name an ablation, e.g. vocl table demo")
    settings = _overridden(chosen, [a for a in arguments if a.startswith("table.")])
    states, _ = look(selection.root, [spec.id for spec in selection.runs])
    records = [_record(s, selection.root, states[s.id].name, settings.protocol) for s in selection.specs]
    table = tabulate(chosen, settings, records, selection)
    place = selection.root / "tables" / chosen.name
    try:
        render.write(table, records, place)
    except OSError as error:
        raise UserError(f"{place}: cannot write there: {error.strerror}: {error.filename}") from None
    print(render.markdown(table))
    print(", ".join(str(place / name) for name in render.FILES))
    _tell_others(selection, chosen.name)
    if "--pictures" in arguments:
        from launch.pictures import draw

        return draw(records, selection.root, place)
    return 0


def _tell_others(selection: Selection, name: str) -> None:
    """Say so if other runs were submitted under the name: their table has other overrides."""
    stored = read_table(selection.root, name)
    if stored and not {entry.id for entry in stored.entries} <= {spec.id for spec in selection.specs}:
        words = shlex.join(a for a in stored.arguments if not a.startswith(("runtime.root=", "cluster")))
        print(f"note: submitted last was another table: vocl table {words}", file=sys.stderr)


def tabulate(
    chosen: Ablation, settings: TableSettings, records: Sequence[Record], selection: Selection
) -> Table:
    """The table of `records`; refuses what cannot stand in one column."""
    done = [record for record in records if record.state == "done"]
    if settings.protocol == "same":
        for column in chosen.columns:
            _same_protocol(column, [r for r in done if r.spec.column == column])
    known = sorted({name for record in done for name in record.metrics})
    for metric in chosen.metrics:
        if done and metric not in known:
            raise UserError(f"{chosen.path}: metrics: no run has {metric!r}, choose from {', '.join(known)}")
    scores: dict[tuple[str, str, str], dict[int, float]] = {}
    for record in records:
        for metric in chosen.metrics:
            values = scores.setdefault((record.spec.row, record.spec.column, metric), {})
            value = record.metrics.get(metric)
            if value is not None:
                values[record.spec.seed] = value * settings.scale
    wanted = Counter((record.spec.row, record.spec.column) for record in records)
    cells = _cells(scores, settings, wanted)
    published = _published(settings, chosen, records, selection)
    return Table(chosen.name, chosen, settings, cells, published, _notes(settings, records, selection))


def _record(spec: Spec, root: Path, state: str, protocol: str | None) -> Record:
    folder = run_folder(root, spec)
    if state != "done":
        return Record(spec, state, None, {}, None, None)
    found = result.read(folder)
    entries = list(found["evals"].values())
    facts = found.get("wall_s"), found.get("code")
    fitting = [e for e in entries if protocol in (None, "same", e["protocol"])]
    if entries and not fitting:
        others = ", ".join(dict.fromkeys(e["protocol"] for e in entries))
        raise UserError(
            f"{folder}/result.json ({spec.label}): scored by protocol {others}, the table wants {protocol}; "
            f"score it again by vocl eval {spec.id}, or set table.protocol to {others} or null"
        )
    if not fitting:
        return Record(spec, state, None, {}, *facts)
    chosen = _as_asked(folder, fitting, spec)
    if chosen is None:
        return Record(spec, UNSCORED, None, {}, *facts)
    return Record(spec, state, chosen["protocol"], chosen["metrics"], *facts)


def _as_asked(folder: Path, entries: list[dict[str, Any]], spec: Spec) -> dict[str, Any] | None:
    """The stored evaluation with the settings of the row's first one; None where there is none yet."""
    wanted = next(iter(spec.config["eval"].values()), {})
    if not wanted:
        return entries[0]

    def asked(settings: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in settings.items() if key != "protocol"}

    for entry in entries:
        report = result.report(folder, entry["eval_id"])
        if report is None:  # as when only the results were copied: settings are unknown
            if len(entries) == 1:
                return entry
        elif asked(report["eval"]) == asked(wanted):
            return entry
    return None


def _same_protocol(column: str, done: Sequence[Record]) -> None:
    rows: dict[str | None, str] = {}
    for record in done:
        rows.setdefault(record.protocol, record.spec.row)
    if len(rows) > 1:
        found = ", ".join(f"row {row!r} by {protocol}" for protocol, row in rows.items())
        raise UserError(
            f"table.protocol: column {column!r} mixes protocols ({found}), which do not compare; "
            "name one, or set table.protocol=null to show them all the same"
        )


def _cells(
    scores: dict[tuple[str, str, str], dict[int, float]],
    settings: TableSettings,
    wanted: Counter[tuple[str, str]],
) -> dict[tuple[str, str, str], Cell]:
    cells = {}
    for (row, column, metric), values in scores.items():
        delta = None
        if settings.baseline not in (None, row):
            delta = paired_difference(values, scores.get((settings.baseline, column, metric), {}))
        cells[row, column, metric] = Cell(summarise(list(values.values())), delta, wanted[row, column])
    best: dict[tuple[str, str], float] = {}
    for (_, column, metric), cell in cells.items():
        if cell.complete:
            shown = round(cell.summary.mean, settings.digits)
            best[column, metric] = max(best.get((column, metric), shown), shown)
    for (row, column, metric), cell in cells.items():
        if cell.complete and round(cell.summary.mean, settings.digits) == best[column, metric]:
            cells[row, column, metric] = replace(cell, best=True)
    return cells


def _published(
    settings: TableSettings, chosen: Ablation, records: Sequence[Record], selection: Selection
) -> dict[tuple[str, str, str], float]:
    """Published scores of the datasets in the columns, scaled."""
    if settings.published is None:
        return {}
    content = read_yaml(find("published", settings.published, project_of(selection.arguments)))
    datasets = {record.spec.column: record.spec.config["dataset"]["name"] for record in records}
    return {
        (row, column, metric): scores[dataset][metric] * settings.scale
        for row, scores in content["rows"].items()
        for column, dataset in datasets.items()
        for metric in chosen.metrics
        if metric in scores.get(dataset, {})
    }


def _notes(settings: TableSettings, records: Sequence[Record], selection: Selection) -> list[str]:
    protocols = ", ".join(sorted({r.protocol for r in records if r.protocol})) or "none yet"
    unit = "fractions" if settings.scale == 1 else f"fractions x {settings.scale:g}"
    notes = [
        f"mean ± sample standard deviation over seeds (n); {unit}; protocol: {protocols}; "
        "bold: best in its column among cells with all seeds"
    ]
    if settings.baseline is not None:
        notes.append(f"Δ: difference to {settings.baseline}, paired by seed")
    runs = {record.spec.id: record for record in records}
    unscored = sum(record.state == UNSCORED for record in records)
    lacking = Counter(r.state for r in runs.values() if r.state not in ("done", UNSCORED))
    command = shlex.join(a for a in selection.arguments if not a.startswith("table."))
    if unscored:
        notes.append(f"† and --: {unscored} runs not scored as their row asks yet; vocl fill {command}")
    if lacking:
        told = ", ".join(f"{count} {name}" for name, count in sorted(lacking.items()))
        notes.append(
            f"† and --: {lacking.total()} of {len(runs)} runs missing ({told}); vocl submit {command}"
        )
    codes = Counter(record.code for record in runs.values() if record.code)
    if len(codes) > 1:
        told = ", ".join(f"{code} ({count})" for code, count in codes.most_common())
        notes.append(f"the runs come from {len(codes)} versions of the code: {told}")
    return notes


def _overridden(chosen: Ablation, overrides: Sequence[str]) -> TableSettings:
    """The file's settings with those of the command line."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    values: dict[str, Any] = asdict(chosen.table)
    for override in overrides:
        try:
            parsed = OverridesParser.create().parse_override(override)
        except HydraException as error:
            raise UserError(
                f"{override}: not an override (key=value): {str(error).splitlines()[0]}"
            ) from None
        values[parsed.key_or_group.removeprefix("table.")] = parsed.value()
    return table_settings(values, tuple(chosen.rows), "table")
