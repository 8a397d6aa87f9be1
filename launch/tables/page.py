"""A table as one HTML page that opens from disk: sortable, with the numbers behind each cell and pictures."""

from __future__ import annotations

import base64
import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch import escape
from launch.tables.grid import Shown, grid
from launch.tables.model import Place, Table

if TYPE_CHECKING:
    from launch.tables.scores import RunScores
    from vocl.rundir.results_root import ResultsRoot

TEMPLATES = Path(__file__).parent / "templates"
TEMPLATE, STYLE, SCRIPT = "table.html.j2", "page.css", "page.js"
SMALL_PX = 220  # width of a thumbnail


def html(
    table: Table,
    records: Sequence[RunScores],
    root: ResultsRoot,
    pictures: Mapping[Place, Path] | None = None,
) -> str:
    """The page. `pictures`: of cells, by (row, column, ""); they are laid into it."""
    return (
        environment()
        .get_template(TEMPLATE)
        .render(
            **table_parts(table),
            runs=_runs(records, root, table),
            thumbnails=[
                {
                    "label": " · ".join(escape.one_line(part) for part in place[:2] if part),
                    "small": data_uri(path, SMALL_PX),
                    "whole": data_uri(path),
                }
                for place, path in (pictures or {}).items()
            ],
        )
    )


def table_parts(table: Table) -> dict[str, Any]:
    """What the template of the scores lays out."""
    found = grid(table)
    groups = [
        [{"label": escape.one_line(label), "cells": cells} for label, cells in group]
        for group in found.groups
    ]
    return {
        "title": escape.one_line(table.ablation.title),
        "headers": [escape.one_line(header) for header in found.titles],
        "groups": groups,
        "notes": [escape.one_line(note) for note in table.notes],
        "tip": functools.partial(_tip, table),
        "value": functools.partial(_value, table),
    }


def environment() -> Any:
    """Templates of this package, which escape what is laid into them."""
    import jinja2

    made = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True)
    made.globals["style"], made.globals["script"] = _asset(STYLE), _asset(SCRIPT)
    return made


def data_uri(path: Path, width: int | None = None) -> str:
    """A picture as text for a page, made as narrow as `width`."""
    import io

    from PIL import Image

    if width is None:
        kind = "jpeg" if path.suffix in (".jpg", ".jpeg") else "png"
        return f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
    with Image.open(path) as image:
        small = image.convert("RGB")
        small.thumbnail((width, width))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _asset(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _value(table: Table, cell: Shown) -> float | None:
    """What a column is sorted by."""
    found = table.cells.get(cell.place) if cell.place else None
    if found is not None and cell.is_delta:
        return found.delta.mean if found.delta else None
    if found is not None:
        return found.summary.mean if found.summary else None
    return float(cell.mean) if cell.mean else None


def _tip(table: Table, cell: Shown) -> str:
    """What stands behind a cell: its interval, or that of a difference and how likely chance made it."""
    found = table.cells.get(cell.place) if cell.place else None
    digits = table.digits(cell.place[2]) if cell.place else 0
    if found is None:
        return ""
    if cell.is_delta and found.delta and found.delta.low is not None and found.delta.high is not None:
        low, high = (f"{value:+.{digits}f}" for value in (found.delta.low, found.delta.high))
        reach = f"{1 - found.delta.noise:.0%} interval {low} to {high}"
        return f"{reach}, p {found.delta.p:.2g}"
    summary = found.summary
    if cell.is_delta or summary is None or summary.low is None or summary.high is None:
        return ""
    level = table.settings.interval or 0.0
    return f"{level:.0%} interval {summary.low:.{digits}f} to {summary.high:.{digits}f}, {summary.n} seeds"


def way_to_runs(root: ResultsRoot, table: Table) -> str:
    """The way to the folder of all runs from that of the table."""
    return Path(os.path.relpath(root.runs_path, root.tables / table.name)).as_posix()


def remarks_of(record: RunScores) -> dict[str, str]:
    """What people said of its run."""
    tags, note = record.remarks.tags, record.remarks.note
    return {"tags": escape.one_line(" ".join(tags)), "note": escape.one_line(note)}


def _runs(records: Sequence[RunScores], root: ResultsRoot, table: Table) -> Iterator[tuple[Any, ...]]:
    """A line per run: its id, the way to its folder from <root>/tables/<name>, what the page says of it."""
    way, line = way_to_runs(root, table), functools.cache(escape.one_line)
    for record in records:
        spec = record.spec
        place = spec.id, f"{way}/{spec.id}/", line(spec.row), line(spec.column), spec.seed
        facts = record.standing, record.gpu_hours, record.code or ""
        yield *place, *facts, line(" ".join(record.remarks.tags)), line(record.remarks.note)
