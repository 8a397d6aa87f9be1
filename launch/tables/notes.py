"""What the reader of a table must know: units, directions, and why a place is empty."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from launch.ablations.ablation import Ablation, TableSettings
from launch.run_states.states import LIVE
from launch.selection.plan import Selection
from launch.tables.grid import INSIDE_NOISE, OTHER_CODE, REMARKED
from launch.tables.published import PublishedScore
from launch.tables.scores import RUN_CODE, RunScores, versions
from vocl.evaluate.masks.named_protocol import choices, protocol
from vocl.measure import Measure
from vocl.rundir.run_dir import Remarks

EMPTY = "\N{DAGGER} and --"


def notes(
    chosen: Ablation,
    settings: TableSettings,
    measures: Mapping[str, Measure],
    records: Sequence[RunScores],
    selection: Selection,
    tested: bool,
) -> list[str]:
    """The lines below a table. `tested`: whether a test stands behind each difference."""
    command = shlex.join(a for a in selection.arguments if not a.startswith("table."))
    baseline = settings.baseline is not None and settings.deltas
    return [
        _units(chosen, settings, measures, records),
        *_mixed(chosen, records),
        *_directions(measures),
        *([_differences(settings, tested)] if baseline else []),
        *_not_scored(records, command),
        *_undefined(chosen, records),
        *_missing(records, command),
        *_damaged(records),
        *_versions(records),
        *_precisions(records),
        *_costs(records),
        *_remarks(records),
    ]


def _units(
    chosen: Ablation, settings: TableSettings, measures: Mapping[str, Measure], records: Sequence[RunScores]
) -> str:
    scores = (record.score(metric) for record in records for metric in chosen.metrics)
    protocols = ", ".join(sorted({score.protocol for score in scores if score and score.protocol}))
    own = [metric for metric, measure in measures.items() if not measure.is_fraction]
    factors = {settings.factor_of(metric, Measure()) for metric in set(measures) - set(own)}
    unit = " or ".join(
        "fractions" if factor == 1 else f"fractions x {factor:g}" for factor in sorted(factors)
    )
    units = [*([unit] if len(own) < len(measures) else []), *_spelt("in a unit of its own", own)]
    return (
        f"mean \N{PLUS-MINUS SIGN} sample standard deviation over seeds (n); {'; '.join(units)}; "
        f"protocol: {protocols or 'none yet'}; bold: best in its {'row' if settings.transpose else 'column'} "
        "among cells with all seeds"
    )


def _differences(settings: TableSettings, tested: bool) -> str:
    untested = "" if tested else "; also where one seed on each side leaves nothing to test"
    return (
        f"\N{GREEK CAPITAL LETTER DELTA}: difference to {settings.baseline}, paired over videos; "
        f"{INSIDE_NOISE}: inside noise, chance gives so wide a gap with p > {settings.noise:g} (t test; "
        f"the scatter of seeds is that of all rows of the column where these scatter alike){untested}"
    )


def _precisions(records: Sequence[RunScores]) -> Iterator[str]:
    found = Counter(str(record.spec.config.train.precision) for record in records)
    if len(found) > 1:
        yield f"rows differ in precision: {_counted(found)}"


def _costs(records: Sequence[RunScores]) -> Iterator[str]:
    """GPU hours of each row, and of these those of attempts that failed or were killed."""
    rows: dict[str, tuple[float, float]] = {}
    for record in {(record.spec.row, record.spec.id): record for record in records}.values():
        spent, lost = rows.get(record.spec.row, (0.0, 0.0))
        rows[record.spec.row] = spent + record.gpu_hours, lost + record.lost_gpu_hours
    if any(spent for spent, _ in rows.values()):
        told = (f"{row} {s:.1f}{f' ({lost:.1f} lost)' if lost else ''}" for row, (s, lost) in rows.items())
        yield f"GPU hours (lost: in attempts that failed or were killed): {', '.join(told)}"


def _remarks(records: Sequence[RunScores]) -> Iterator[str]:
    """What people said of runs, by `vocl tag`."""
    places: dict[str, list[str]] = {}
    said: dict[Remarks, dict[str, None]] = {}
    for record in (record for record in records if record.remarks):
        places.setdefault(record.spec.id, []).append(record.spec.label)
        said.setdefault(record.remarks, {})[record.spec.id] = None
    for remarks, runs in said.items():
        tags = f"{'tag' if len(remarks.tags) == 1 else 'tags'} {', '.join(remarks.tags)}"
        told = "; ".join(filter(None, [tags if remarks.tags else "", remarks.note]))
        where = (f"run {run} ({'; '.join(places[run])})" for run in runs)
        yield f"{REMARKED} {told}: {', '.join(where)}"


def _mixed(chosen: Ablation, records: Sequence[RunScores]) -> Iterator[str]:
    """Columns in which numbers stand that do not compare: the table was told to take them all."""
    for column in chosen.columns:
        for metric in chosen.metrics:
            found: dict[str, list[str]] = {}
            for record in records:
                score = record.score(metric) if record.spec.column == column else None
                if score is not None:
                    found.setdefault(str(score.protocol), []).append(record.spec.row)
            if len(found) > 1:
                told = "; ".join(f"{name}: {', '.join(dict.fromkeys(rows))}" for name, rows in found.items())
                place = metric if len(chosen.columns) == 1 else f"{column} {metric}"
                yield f"{place} mixes protocols, whose numbers do not compare ({told})"


def published_otherwise(
    chosen: Ablation, records: Sequence[RunScores], theirs: Iterable[PublishedScore], project: str | None
) -> Iterator[str]:
    """Published scores of another protocol than the rows above them."""
    wanted = {score.protocol for score in theirs}
    names = {protocol(name, project)["name"] for name in choices(project) if name in wanted}
    scores = (record.score(metric) for record in records for metric in chosen.metrics)
    ours = {score.protocol for score in scores if score and score.protocol}
    for name in sorted(names):
        if others := sorted(ours - {name}):
            yield f"published: by protocol {name}, rows by {', '.join(others)} do not compare with it"


def _directions(measures: Mapping[str, Measure]) -> Iterator[str]:
    less = [metric for metric, measure in measures.items() if measure.higher_is_better is False]
    neither = [metric for metric, measure in measures.items() if measure.higher_is_better is None]
    yield from _spelt("less is better", less)
    yield from _spelt("neither direction is better", neither)


def _not_scored(records: Sequence[RunScores], command: str) -> Iterator[str]:
    """Evaluations that finished runs lack, and those that were tried and failed."""
    failed = Counter((name, why) for r in records for name, why in r.failed.items() if name in r.lacking)
    lacking = [(record, [n for n in record.lacking if n not in record.failed]) for record in records]
    unscored = [names for _, names in lacking if names]
    if unscored:
        names = ", ".join(dict.fromkeys(name for each in unscored for name in each))
        yield f"{EMPTY}: {len(unscored)} runs not scored as their row asks yet ({names}); vocl fill {command}"
    for (name, why), count in failed.items():
        yield f"{EMPTY}: {name} failed in {count} runs ({why}); to try it again: vocl fill {command}"


def _undefined(chosen: Ablation, records: Sequence[RunScores]) -> Iterator[str]:
    scores = ((record, metric, record.score(metric)) for record in records for metric in chosen.metrics)
    found = [(record, metric) for record, metric, score in scores if score and score.value is None]
    if found:
        count = len({(record.spec.row, record.spec.column, record.spec.seed) for record, _ in found})
        names = ", ".join(dict.fromkeys(metric for _, metric in found))
        seeds = "seed" if count == 1 else "seeds"
        yield (
            f"{EMPTY}: of {count} {seeds}: the score is undefined ({names}), as where no frame has an object"
        )


def _missing(records: Sequence[RunScores], command: str) -> Iterator[str]:
    runs = {record.spec.id: record for record in records}
    lacking = Counter(record.state for record in runs.values() if record.state != "done")
    if lacking:
        told = ", ".join(f"{count} {name}" for name, count in sorted(lacking.items()))
        verbs = [
            *(["submit"] if lacking.keys() - {"failed", *LIVE} else []),
            *(["retry"] if "failed" in lacking else []),
        ]
        fill = " and ".join(f"vocl {verb} {command}" for verb in verbs)
        yield f"{EMPTY}: {lacking.total()} of {len(runs)} runs missing ({told}){fill and f'; {fill}'}"


def _damaged(records: Sequence[RunScores]) -> Iterator[str]:
    for line in dict.fromkeys(record.damaged for record in records if record.damaged):
        yield f"{EMPTY}: {line}"


def _versions(records: Sequence[RunScores]) -> Iterator[str]:
    """Mixtures of code: of the runs, and of each evaluation."""
    for name, codes in versions(records).items():
        if len(codes) < 2:
            continue
        told = f"{_counted(codes)}; {OTHER_CODE}: not all by the first"
        if name == RUN_CODE:
            yield f"the runs come from {len(codes)} versions of the code: {told}"
        else:
            again = f"to score a run again: vocl eval RUN eval=[{name}] --again"
            yield f"{name}: scores by {len(codes)} versions of its code: {told}; {again}"


def _counted(codes: Counter[str]) -> str:
    return ", ".join(f"{code} ({count})" for code, count in codes.most_common())


def _spelt(text: str, names: Iterable[str]) -> list[str]:
    spelt = ", ".join(names)
    return [f"{text}: {spelt}"] if spelt else []
