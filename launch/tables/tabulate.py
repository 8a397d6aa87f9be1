"""From the scores of runs to the cells of a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from launch.ablations.ablation import Ablation, TableSettings, table_settings
from launch.run_states.states import look
from launch.selection.metric_names import refuse_unknown_protocol
from launch.selection.plan import Selection, select
from launch.tables import published
from launch.tables.model import Place, Table, TableCell
from launch.tables.notes import notes
from launch.tables.published import PublishedScore
from launch.tables.scores import RunScores, read, refuse_metrics_not_given
from launch.tables.stats import paired_difference, summarise
from vocl.config.compose import project_of
from vocl.config.grammar import quoting_hint
from vocl.errors import UserError
from vocl.measure import Measure
from vocl.ops.narrow import given


def tabulated(arguments: Sequence[str]) -> tuple[Selection, list[RunScores], Table]:
    """The runs, their records and the table of `arguments`: NAME [table.KEY=VALUE ...] [overrides]."""
    selection = select([a for a in arguments if not a.startswith("table.")])
    chosen = selection.ablation
    if chosen is None:
        raise UserError("vocl table: name an ablation, e.g. vocl table demo")
    settings = _overridden(chosen, [a for a in arguments if a.startswith("table.")])
    refuse_unknown_protocol("table.protocol", settings.protocol, selection.specs)
    states, _ = look(selection.root, [spec.id for spec in selection.runs])
    records = [read(s, selection.root, states[s.id].name, settings.protocol) for s in selection.specs]
    return selection, records, tabulate(chosen, settings, records, selection)


def tabulate(
    chosen: Ablation, settings: TableSettings, records: Sequence[RunScores], selection: Selection
) -> Table:
    """The table of `records`; refuses what cannot stand in one column."""
    refuse_metrics_not_given(chosen.path, chosen.metrics, records)
    measures: dict[str, Measure] = {}
    scores: dict[Place, dict[int, float]] = {}
    for metric in chosen.metrics:
        found = [(record, record.score(metric)) for record in records]
        there = [(record, score) for record, score in found if score is not None]
        measures[metric] = there[0][1].measure if there else Measure()
        if settings.protocol == "same":
            _same_protocol(chosen, {(r.spec.column, s.protocol): r.spec.row for r, s in reversed(there)})
        factor = settings.factor_of(measures[metric])
        for record, score in found:
            values = scores.setdefault((record.spec.row, record.spec.column, metric), {})
            if score is not None and score.value is not None:
                values[record.spec.seed] = score.value * factor
    wanted = Counter((record.spec.row, record.spec.column) for record in records)
    theirs = _published(settings, chosen, records, selection)
    return Table(
        name=chosen.name,
        ablation=chosen,
        settings=settings,
        measures=measures,
        cells=_cells(scores, settings, measures, wanted),
        published={p: s.value * settings.factor_of(measures[p[2]]) for p, s in theirs.items()},
        notes=[*notes(chosen, settings, measures, records, selection), *published.notes(theirs.values())],
    )


def _same_protocol(chosen: Ablation, found: Mapping[tuple[str, str | None], str]) -> None:
    """`found`: a row for each column and protocol by which it was scored."""
    for column in chosen.columns:
        rows = {protocol: row for (each, protocol), row in found.items() if each == column}
        if len(rows) > 1:
            told = ", ".join(f"row {row!r} by {protocol}" for protocol, row in reversed(rows.items()))
            raise UserError(
                f"table.protocol: column {column!r} mixes protocols ({told}), which do not compare; "
                "name one, or set table.protocol=null to show them all the same"
            )


def _cells(
    scores: Mapping[Place, dict[int, float]],
    settings: TableSettings,
    measures: Mapping[str, Measure],
    wanted: Counter[tuple[str, str]],
) -> dict[Place, TableCell]:
    cells = {}
    for (row, column, metric), values in scores.items():
        delta = None
        if settings.baseline not in (None, row):
            delta = paired_difference(values, scores.get((settings.baseline, column, metric), {}))
        cells[row, column, metric] = TableCell(summarise(list(values.values())), delta, wanted[row, column])
    shown = {
        place: round(given(cell.summary).mean, settings.digits_of(measures[place[2]]))
        for place, cell in cells.items()
        if cell.complete and measures[place[2]].higher_is_better is not None
    }
    for (row, column, metric), mean in shown.items():
        rivals = [value for place, value in shown.items() if place[1:] == (column, metric)]
        best = max(rivals) if measures[metric].higher_is_better else min(rivals)
        cells[row, column, metric] = replace(cells[row, column, metric], best=mean == best)
    return cells


def _published(
    settings: TableSettings, chosen: Ablation, records: Sequence[RunScores], selection: Selection
) -> dict[Place, PublishedScore]:
    """Published scores of the metrics on the datasets of the columns."""
    if settings.published is None:
        return {}
    configs = {record.spec.column: record.spec.config for record in records}
    return published.shown(settings.published, chosen.metrics, configs, project_of(selection.arguments))


def _overridden(chosen: Ablation, overrides: Sequence[str]) -> TableSettings:
    """The file's settings with those of the command line."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    values: dict[str, Any] = asdict(chosen.table)
    for override in overrides:
        try:
            parsed = OverridesParser.create().parse_override(override)
        except HydraException as error:
            said = f"{str(error).splitlines()[0]}{quoting_hint(override)}"
            raise UserError(f"{override}: not an override (key=value): {said}") from None
        values[parsed.key_or_group.removeprefix("table.")] = parsed.value()
    return table_settings(values, tuple(chosen.rows), "table")
