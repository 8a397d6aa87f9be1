"""A table as markdown, LaTeX and CSV."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch import escape
from launch.tables.grid import NOTHING, Shown, grid
from launch.tables.page import html
from vocl.files import write_text

if TYPE_CHECKING:
    import pandas as pd

    from launch.tables.model import Place, Table
    from launch.tables.scores import RunScores
    from vocl.rundir.results_root import ResultsRoot

PAGE = "table.html"
FILES = ("table.md", "table.csv", "table.tex", "runs.csv", PAGE)


def write(table: Table, records: Sequence[RunScores], root: ResultsRoot) -> None:
    """Write FILES into the table's folder, each atomically."""
    place, runs = root.tables / table.name, _runs_csv(records, table.ablation.metrics)
    contents = (markdown(table) + "\n", _cells_csv(table), latex(table), runs)
    for name, content in zip(FILES, contents, strict=False):
        write_text(place / name, content)
    write_page(table, records, root, {})


def write_page(
    table: Table, records: Sequence[RunScores], root: ResultsRoot, pictures: Mapping[Place, Path]
) -> None:
    """Write the page alone, with pictures of cells."""
    write_text(root.tables / table.name / PAGE, html(table, records, root, pictures))


def markdown(table: Table) -> str:
    """The table with a title and its notes, columns padded so that it also reads as plain text."""
    found = grid(table)
    titles = [" ".join(dict.fromkeys(filter(None, header))) for header in found.headers]
    lines = [["", *map(escape.markdown, titles)]]
    lines += [[escape.markdown(label), *map(_markdown_cell, cells)] for label, cells in found.lines]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    rule = [("-" * width if i == 0 else "-" * (width - 1) + ":") for i, width in enumerate(widths)]
    padded = [
        [c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))]
        for line in lines
    ]
    body = [f"| {' | '.join(line)} |" for line in (padded[0], rule, *padded[1:])]
    notes = (f"- {escape.one_line(note)}" for note in table.notes)
    return "\n".join([f"**{escape.markdown(table.ablation.title)}**", "", *body, "", *notes])


def _markdown_cell(cell: Shown) -> str:
    return replace(cell, mean=f"**{cell.mean}**" if cell.best else cell.mean).plain  # it cannot underline


def latex(table: Table) -> str:
    r"""A booktabs tabular to \input; rules between groups and above published rows."""
    import pandas as pd

    found = grid(table)
    lines = [(escape.latex(label), [_latex_cell(cell) for cell in cells]) for label, cells in found.lines]
    headers = [tuple(escape.latex(part) for part in header) for header in found.headers]
    columns: Any = pd.MultiIndex.from_tuples(headers)
    if not any(second for _, second in headers):
        columns = [first for first, _ in headers]
    frame = pd.DataFrame([cells for _, cells in lines], index=[label for label, _ in lines], columns=columns)
    text = frame.style.to_latex(hrules=True, column_format="l" + "r" * len(headers), multicol_align="c")
    text = _with_rules(text, [len(group) for group in found.groups])
    packages = r"\usepackage{booktabs}"
    if table.settings.fit:
        text = f"\\resizebox{{\\columnwidth}}{{!}}{{%\n{text.rstrip()}%\n}}\n"
        packages += r" and \usepackage{graphicx}"
    notes = (table.ablation.title, *table.notes, f"needs {packages}")
    return "".join(f"% {escape.one_line(note)}\n" for note in notes) + text


def _latex_cell(cell: Shown) -> str:
    number = escape.latex(cell.mean) if cell.mean == NOTHING else cell.mean.replace("-", "$-$")
    mean = rf"\textbf{{{number}}}" if cell.best else rf"\underline{{{number}}}" if cell.second else number
    return mean + escape.latex(replace(cell, mean="").plain)


def _with_rules(text: str, sizes: Sequence[int]) -> str:
    r"""Put a \midrule after each group of rows but the last."""
    lines = text.split("\n")
    at = lines.index(r"\midrule") + 1
    for size in sizes[:-1]:
        at += size
        lines.insert(at, r"\midrule")
        at += 1
    return "\n".join(lines)


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
        lines.append([*place, record.standing, *values, record.wall_s, record.code])
    headers = ["run", "row", "column", "seed", "state", *map(cell, (*metrics, *names)), "wall_s", "code"]
    return pd.DataFrame(lines, columns=headers).to_csv(index=False)
