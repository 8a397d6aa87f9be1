"""A table as markdown and CSV, and the files of a table."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from launch import escape
from launch.run_states.many import few_collections
from launch.tables.grid import Shown, grid
from launch.tables.latex import latex
from launch.tables.page import html
from vocl.files import write_text

if TYPE_CHECKING:
    import pandas as pd

    from launch.tables.model import Place, Table
    from launch.tables.scores import RunScores
    from vocl.rundir.results_root import ResultsRoot

PAGE = "table.html"
FILES = ("table.md", "table.csv", "table.tex", "runs.csv", PAGE)


@few_collections()
def write(table: Table, records: Sequence[RunScores], root: ResultsRoot) -> None:
    """Write FILES into the table's folder, each atomically."""
    place, runs = root.tables / table.name, _runs_csv(records, table.ablation.metrics)
    page = html(table, records, root, {})
    contents = (markdown(table) + "\n", _cells_csv(table), latex(table), runs, page)
    for name, content in zip(FILES, contents, strict=True):  # once all of them could be made
        write_text(place / name, content)


def write_page(
    table: Table, records: Sequence[RunScores], root: ResultsRoot, pictures: Mapping[Place, Path]
) -> None:
    """Write the page alone, with pictures of cells."""
    write_text(root.tables / table.name / PAGE, html(table, records, root, pictures))


def markdown(table: Table) -> str:
    """The table with a title and its notes, columns padded so that it also reads as plain text."""
    found = grid(table)
    lines = [["", *map(escape.markdown, found.titles)]]
    lines += [[escape.markdown(label), *map(_markdown_cell, cells)] for label, cells in found.lines]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    rule = [("-" * width if i == 0 else "-" * (width - 1) + ":") for i, width in enumerate(widths)]
    padded = [
        [c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))]
        for line in lines
    ]
    body = [f"| {' | '.join(line)} |" for line in (padded[0], rule, *padded[1:])]
    notes = (f"- {escape.markdown(note)}" for note in table.notes)
    return "\n".join([f"**{escape.markdown(table.ablation.title)}**", "", *body, "", *notes])


def _markdown_cell(cell: Shown) -> str:
    return replace(cell, mean=f"**{cell.mean}**" if cell.best else cell.mean).plain  # it cannot underline


def cells_frame(table: Table) -> pd.DataFrame:
    """A line per row, column and metric; numbers are scaled, not rounded."""
    import pandas as pd

    lines = []
    for (row, column, metric), cell in table.cells.items():
        summary, delta = cell.summary, cell.delta
        lines.append(
            {
                "row": escape.one_line(row),
                "column": escape.one_line(column),
                "metric": escape.one_line(metric),
                "mean": summary and summary.mean,
                "std": summary and summary.std,
                "n": summary.n if summary else 0,
                "wanted": cell.wanted,
                "low": summary and summary.low,
                "high": summary and summary.high,
                "best": cell.best,
                "gaps": cell.told_gaps,
                "other_code": cell.other_code,
                "remarked": cell.remarked,
                "delta_mean": delta and delta.mean,
                "delta_std": delta and delta.std,
                "delta_low": delta and delta.low,
                "delta_high": delta and delta.high,
                "delta_p": delta and delta.p,
                "inside_noise": delta and delta.is_inside_noise,
                "scale": table.factor(metric),
                "higher_is_better": table.measures[metric].higher_is_better,
            }
        )
    return pd.DataFrame(lines)


def _cells_csv(table: Table) -> str:
    frame = cells_frame(table)
    for name in ("row", "column", "metric"):
        frame[name] = frame[name].map(escape.csv)
    return frame.to_csv(index=False)


def _runs_csv(records: Sequence[RunScores], metrics: Sequence[str]) -> str:
    """A line per row, column and seed, with scores as the records have them: those of the table by their
    names there, then every one as <evaluation>/<metric>."""
    import pandas as pd

    names = list(dict.fromkeys(name for record in records for name in record.names if name not in metrics))
    lines = []
    cell = functools.cache(escape.csv)
    for record in records:
        scores = (record.score(name) for name in (*metrics, *names))
        place = record.spec.id, cell(record.spec.row), cell(record.spec.column), record.spec.seed
        values = (None if score is None else score.value for score in scores)
        remarks = cell(" ".join(record.remarks.tags)), cell(record.remarks.note)
        lines.append([*place, record.standing, *values, record.wall_s, record.code, *remarks])
    places, remarks = ("run", "row", "column", "seed", "state"), ("tags", "note")
    headers = [*places, *map(cell, (*metrics, *names)), "wall_s", "code", *remarks]
    return pd.DataFrame(lines, columns=headers).to_csv(index=False)
