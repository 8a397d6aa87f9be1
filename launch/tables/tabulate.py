"""From the scores of runs to the cells of a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

from launch.ablations.ablation import Ablation, TableSettings, table_settings
from launch.run_states.many import few_collections
from launch.run_states.states import RunState, look
from launch.selection.metric_names import refuse_unknown_protocol
from launch.selection.plan import Selection, select
from launch.tables import published
from launch.tables.model import Place, Table, TableCell
from launch.tables.notes import notes, published_otherwise
from launch.tables.published import PublishedScore
from launch.tables.scores import RunScores, read, read_videos, refuse_metrics_not_given, versions
from launch.tables.stats import Sample, difference, seed_variance, summarise
from vocl.config.compose import project_of
from vocl.config.grammar import quoting_hint
from vocl.errors import UserError
from vocl.measure import Measure
from vocl.ops.narrow import given


class Tabulated(NamedTuple):
    """A table, and what it was made of. `trouble`: what kept SLURM from saying what became of runs."""

    selection: Selection
    records: list[RunScores]
    table: Table
    states: dict[str, RunState]
    trouble: str


@few_collections()
def tabulated(arguments: Sequence[str], by_video: bool = False) -> Tabulated:
    """The table of `arguments`: NAME [table.KEY=VALUE ...] [overrides]; `by_video` as in `tabulate`."""
    selection = select([a for a in arguments if not a.startswith("table.")])
    chosen = selection.ablation
    if chosen is None:
        raise UserError(f"{' '.join(arguments)}: name an ablation, e.g. demo")
    settings = _overridden(chosen, [a for a in arguments if a.startswith("table.")])
    refuse_unknown_protocol("table.protocol", settings.protocol, selection.specs)
    root = selection.root
    states, trouble = look(root, [spec.id for spec in selection.runs])
    records = read(selection.specs, root, states, settings.protocol)
    table = tabulate(chosen, settings, records, selection, by_video)
    return Tabulated(selection, records, table, states, trouble)


def tabulate(
    chosen: Ablation,
    settings: TableSettings,
    records: Sequence[RunScores],
    selection: Selection,
    by_video: bool = False,
) -> Table:
    """The table of `records`; refuses what cannot stand in one column. `by_video`: the scores of videos are
    read even if no cell needs them."""
    refuse_metrics_not_given(chosen.path, chosen.metrics, records)
    measures: dict[str, Measure] = {}
    protocols: dict[tuple[str, str], set[str | None]] = {}
    for metric in chosen.metrics:
        there = [(record, score) for record in records if (score := record.score(metric)) is not None]
        measures[metric] = there[0][1].measure if there else Measure()
        if settings.protocol == "same":
            _same_protocol(chosen, {(r.spec.column, s.protocol): r.spec.row for r, s in reversed(there)})
        for record, known in there:
            protocols.setdefault((record.spec.column, metric), set()).add(known.protocol)
    if settings.interval or settings.baseline or by_video:
        read_videos(records, chosen.metrics, selection.root, chosen.name)
    samples = dict(_samples(chosen.metrics, settings, measures, records))
    wanted = Counter((record.spec.row, record.spec.column) for record in records)
    theirs = _published(settings, chosen, records, selection)
    cells = _ranked(_cells(samples, settings, wanted), settings, measures, protocols)
    tested = all(cell.delta.p is not None for cell in cells.values() if cell.delta)
    return Table(
        name=chosen.name,
        ablation=chosen,
        settings=settings,
        measures=measures,
        cells=_explained(cells, records),
        published=theirs,
        notes=[
            *notes(chosen, settings, measures, records, selection, tested),
            *published.notes(theirs.values()),
            *published_otherwise(chosen, records, theirs.values(), project_of(selection.arguments)),
        ],
    )


def _samples(
    metrics: Sequence[str],
    settings: TableSettings,
    measures: Mapping[str, Measure],
    records: Sequence[RunScores],
) -> Iterator[tuple[Place, Sample]]:
    """The scaled scores of each cell; those of videos are unpacked for one cell at a time."""
    cells: dict[tuple[str, str], list[RunScores]] = {}
    for record in records:
        cells.setdefault((record.spec.row, record.spec.column), []).append(record)
    for metric in metrics:
        factor = settings.factor_of(metric, measures[metric])
        for place, own in cells.items():
            scored = [(r, s.value) for r in own if (s := r.score(metric)) is not None and s.value is not None]
            values = {record.spec.seed: value * factor for record, value in scored}
            videos = {
                record.spec.seed: {name: value * factor for name, value in record.videos(metric).items()}
                for record, _ in scored
            }
            yield (*place, metric), Sample(values, videos)


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
    scores: Mapping[Place, Sample], settings: TableSettings, wanted: Counter[tuple[str, str]]
) -> dict[Place, TableCell]:
    columns: dict[tuple[str, str], list[Sample]] = {}
    for place, sample in scores.items():
        columns.setdefault(place[1:], []).append(sample)
    variances = (
        {place: seed_variance(samples) for place, samples in columns.items()} if settings.baseline else {}
    )
    cells = {}
    for (row, column, metric), sample in scores.items():
        delta = None
        if settings.baseline not in (None, row):
            baseline = scores.get((settings.baseline, column, metric), Sample({}, {}))
            delta = difference(sample, baseline, variances[column, metric], settings.noise)
        cells[row, column, metric] = TableCell(
            summarise(sample, settings.interval), delta, wanted[row, column]
        )
    return cells


def _ranked(
    cells: Mapping[Place, TableCell],
    settings: TableSettings,
    measures: Mapping[str, Measure],
    protocols: Mapping[tuple[str, str], set[str | None]],
) -> dict[Place, TableCell]:
    """The cells, each with whether it is the best or second of its column as it is shown; none is where
    protocols mix, whose numbers do not compare."""
    shown: dict[tuple[str, str], dict[Place, float]] = {}
    for place, cell in cells.items():
        metric = place[2]
        compares = len(protocols.get(place[1:], ())) == 1
        if compares and cell.complete and measures[metric].higher_is_better is not None:
            digits = settings.digits_of(metric, measures[metric])
            shown.setdefault(place[1:], {})[place] = round(given(cell.summary).mean, digits)
    out = dict(cells)
    for (_, metric), values in shown.items():
        order = sorted(set(values.values()), reverse=bool(measures[metric].higher_is_better))
        for place, value in values.items():
            out[place] = replace(cells[place], best=value == order[0], second=value in order[1:2])
    return out


def _explained(cells: Mapping[Place, TableCell], records: Sequence[RunScores]) -> dict[Place, TableCell]:
    """The cells, with what else a reader must see in each: why seeds have no number, other code, remarks."""
    usual = {name: codes.most_common(1)[0][0] for name, codes in versions(records).items() if codes}
    own: dict[tuple[str, str], list[RunScores]] = {}
    for record in records:
        own.setdefault((record.spec.row, record.spec.column), []).append(record)
    out = {}
    for place, cell in cells.items():
        row, column, metric = place
        gaps = Counter(why for record in own[row, column] if (why := record.gap(metric)) is not None)
        other = not all(record.is_by(usual, metric) for record in own[row, column])
        remarked = any(record.remarks for record in own[row, column])
        out[place] = replace(cell, gaps=dict(gaps), other_code=other, remarked=remarked)
    return out


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
