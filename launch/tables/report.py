"""Everything about the runs of a table as one HTML page that opens from disk."""

from __future__ import annotations

import base64
import io
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from launch import escape
from launch.run_states.states import RunState
from launch.tables import charts
from launch.tables.charts import Curve
from launch.tables.model import Table
from launch.tables.page import data_uri, environment, remarks_of, table_parts, way_to_runs
from launch.tables.pictures import DrawnVideo, RowColumn
from launch.tables.scores import RunScores
from vocl.rundir.records import PROBE, Records
from vocl.rundir.results_root import ResultsRoot

TEMPLATE, FILE = "report.html.j2", "report.html"
QUANTITIES = {"loss": "loss", "slots_used": "slots used"}  # of metrics.jsonl, which are drawn where logged
SMALL_PX, WHOLE_PX = 520, 1800  # widths of pictures
COLD, WARM = (247, 251, 255), (8, 48, 107)  # of a matrix: its least likeness, all of it


def html(
    table: Table,
    records: Sequence[RunScores],
    root: ResultsRoot,
    states: Mapping[str, RunState],
    drawn: Mapping[RowColumn, Sequence[DrawnVideo] | str],
) -> str:
    """The page. `drawn`: videos of a row in a column, or why there are none."""
    colour = charts.colours([escape.one_line(row) for row in table.ablation.rows])
    way = way_to_runs(root, table)
    return (
        environment()
        .get_template(TEMPLATE)
        .render(
            **table_parts(table),
            legend=colour,
            curves=list(_curves(table, records, states, colour)),
            spreads=list(_spreads(table, records, colour)),
            places=[_place(table, place, found) for place, found in drawn.items()],
            runs=[_run(record, states[record.spec.id], way) for record in records],
            totals=_totals(records, states),
        )
    )


# ----------------------------------------------------------------------------------------- charts


def _curves(
    table: Table,
    records: Sequence[RunScores],
    states: Mapping[str, RunState],
    colour: Mapping[str, str],
) -> Iterator[dict[str, Any]]:
    """A chart per column and quantity that any run has logged, and per metric that any has probed."""
    histories = {run: _records(state).history for run, state in states.items()}
    drawn: dict[tuple[str, ...], str] = {(key,): name for key, name in QUANTITIES.items()}
    drawn |= {_probed(histories, metric): f"{metric} of probes" for metric in table.ablation.metrics}
    for column in table.ablation.columns:
        for keys, name in drawn.items():
            lines = []
            for record in (record for record in records if record.spec.column == column):
                reports = histories[record.spec.id]
                points = [(each["step"], each[key]) for each in reports for key in keys if key in each]
                tip = f"{record.spec.label}, run {record.spec.id}"
                lines.append(Curve(escape.one_line(record.spec.row), tip, points))
            if any(line.points for line in lines):
                found = charts.curves(_title(table, column, name), lines, colour)
                silent = dict.fromkeys(line.group for line in lines if not line.points)
                yield found | {"without": list(silent)}


def _probed(histories: Mapping[str, Sequence[Mapping[str, Any]]], metric: str) -> tuple[str, ...]:
    """By which keys probes of any run tell `metric`, SCORE or EVALUATION/SCORE."""
    keys = dict.fromkeys(key for reports in histories.values() for each in reports for key in each)
    return tuple(key for key in keys if key.startswith(PROBE) and key.endswith(f"/{metric}"))


def _spreads(
    table: Table, records: Sequence[RunScores], colour: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """A chart per column and metric of which rows of videos are kept: each video's mean over seeds."""
    for column in table.ablation.columns:
        for metric in table.ablation.metrics:
            scores: dict[str, list[float]] = {}
            for row in table.ablation.rows:
                videos: dict[str, list[float]] = {}
                for record in records:
                    if (record.spec.row, record.spec.column) == (row, column):
                        for name, value in record.videos(metric).items():
                            videos.setdefault(name, []).append(value * table.factor(metric))
                scores[escape.one_line(row)] = [statistics.fmean(values) for values in videos.values()]
            if any(scores.values()):
                yield charts.spread(_title(table, column, metric), scores, colour)


def _title(table: Table, column: str, what: str) -> str:
    return f"{escape.one_line(column)}: {what}" if len(table.ablation.columns) > 1 else what


# ----------------------------------------------------------------------------------------- videos


def _place(table: Table, place: RowColumn, found: Sequence[DrawnVideo] | str) -> dict[str, Any]:
    label = " · ".join(escape.one_line(part) for part in place if part)
    if isinstance(found, str):
        return {"label": label, "why": found, "videos": []}
    return {"label": label, "why": "", "videos": [_video(table, label, each) for each in found]}


def _video(table: Table, label: str, drawn: DrawnVideo) -> dict[str, Any]:
    facts, name = drawn.facts, escape.one_line(drawn.video)
    frames = sorted(set(facts["used_per_frame"]))
    score = f"{drawn.score * table.factor(drawn.metric):.{table.digits(drawn.metric)}f}"
    return {
        "label": f"{label}, {name}",
        "name": name,
        "score": f"{'best' if drawn.is_best else 'worst'}: {drawn.metric} {score}",
        "small": data_uri(drawn.picture, SMALL_PX),
        "whole": data_uri(drawn.picture, WHOLE_PX),
        "used": f"{facts['used']} of {facts['num_slots']} slots used",
        "per_frame": f"{frames[0]} to {frames[-1]} in a frame" if len(frames) > 1 else f"{frames[0]} in each",
        "matrices": [
            {"title": title, "image": matrix(facts[key]), "low": min(map(min, facts[key]))}
            for key, title in (("between_frames", "frames"), ("next_frame", "slots, next frame"))
            if facts[key]
        ],
    }


def matrix(values: Sequence[Sequence[float]]) -> str:
    """A matrix of cosines as a picture for a page, a pixel each: dark is 1, light its lowest value."""
    from PIL import Image

    low = min(map(min, values))
    shares = [min(1.0, (value - low) / max(1 - low, 1e-6)) for row in values for value in row]
    image = Image.new("RGB", (len(values[0]), len(values)))
    image.putdata([tuple(round(c + (w - c) * s) for c, w in zip(COLD, WARM, strict=True)) for s in shares])
    packed = io.BytesIO()
    image.save(packed, "PNG")
    return f"data:image/png;base64,{base64.b64encode(packed.getvalue()).decode()}"


# ------------------------------------------------------------------------------------------- runs


def _run(record: RunScores, state: RunState, way: str) -> dict[str, Any]:
    """What became of a run, and what it cost; `way`: to the folder of all runs."""
    found, spec = _records(state), record.spec
    result = found.result
    step = result.steps if result else state.step
    steps = result.steps if result else state.steps or spec.config.train.steps
    failed = (f"{name}: {why}" for name, why in record.failed.items())
    lacking = f"lacks {', '.join(record.lacking)}" if record.lacking else ""
    reasons = [state.full_reason, record.damaged or "", lacking, *failed]
    return {
        "id": spec.id,
        "link": f"{way}/{spec.id}/",
        "row": escape.one_line(spec.row),
        "column": escape.one_line(spec.column),
        "seed": spec.seed,
        "state": record.standing,
        "reason": escape.one_line("; ".join(dict.fromkeys(filter(None, reasons)))),
        "step": step,
        "steps": f"{step or 0} / {steps}",
        "wall_s": found.wall_s,
        "gpu_hours": found.gpu_hours,
        "attempts": found.num_attempts,
        "code": found.code or "",
        **remarks_of(record),
    }


def _totals(records: Sequence[RunScores], states: Mapping[str, RunState]) -> str:
    """A line on all runs: how many are in which state, and what they cost."""
    names = [record.standing for record in records]
    counts = ", ".join(f"{names.count(name)} {name}" for name in dict.fromkeys(names))
    found = [_records(state) for state in states.values()]
    hours, wall = sum(each.gpu_hours for each in found), sum(each.wall_s for each in found) / 3600
    return f"{counts}; {wall:.2f} hours of runs, {hours:.2f} GPU hours"


def _records(state: RunState) -> Records:
    assert state.records is not None  # `look` keeps them
    return state.records
