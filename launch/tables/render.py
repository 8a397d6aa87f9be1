"""A table as markdown, LaTeX and CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch import escape
from launch.tables.stats import Summary
from vocl.files import write_text

if TYPE_CHECKING:
    import pandas as pd

    from launch.tables.model import Table, TableCell
    from launch.tables.scores import RunScores

FILES = ("table.md", "table.csv", "table.tex", "runs.csv")
Header = tuple[str, str]  # column, metric


def write(table: Table, records: Sequence[RunScores], place: Path) -> None:
    """Write FILES into folder `place`, each atomically."""
    runs = _runs_csv(records, table.ablation.metrics)
    contents = (markdown(table) + "\n", _cells_csv(table), latex(table), runs)
    for name, content in zip(FILES, contents, strict=True):
        write_text(place / name, content)


def markdown(table: Table) -> str:
    """The table with a title and its notes, columns padded so that it also reads as plain text."""
    headers = _headers(table)
    titles = ["", *(escape.markdown(" ".join(dict.fromkeys(filter(None, each)))) for each in headers)]
    lines = [titles]
    for group in table.rows:
        lines += [[escape.markdown(row), *_texts(table, row, _markdown_cell)] for row in group]
    for row, values in _published_rows(table):
        lines.append([escape.markdown(f"published: {row}"), *values])
    widths = [max(len(line[i]) for line in lines) for i in range(len(titles))]
    rule = [("-" * width if i == 0 else "-" * (width - 1) + ":") for i, width in enumerate(widths)]
    padded = [
        [c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))]
        for line in lines
    ]
    body = [f"| {' | '.join(line)} |" for line in (padded[0], rule, *padded[1:])]
    notes = (f"- {escape.one_line(note)}" for note in table.notes)
    return "\n".join([f"**{escape.markdown(table.ablation.title)}**", "", *body, "", *notes])


def latex(table: Table) -> str:
    """A booktabs tabular; rules between groups and above published rows."""
    import pandas as pd

    groups = [[(escape.latex(row), _texts(table, row, _latex_cell)) for row in group] for group in table.rows]
    published = [(escape.latex(f"published: {row}"), values) for row, values in _published_rows(table)]
    groups += [published] if published else []
    lines = [line for group in groups for line in group]
    headers = [tuple(escape.latex(part) for part in header) for header in _headers(table)]
    columns = pd.MultiIndex.from_tuples(headers)
    frame = pd.DataFrame([cells for _, cells in lines], index=[label for label, _ in lines], columns=columns)
    text = frame.style.to_latex(hrules=True, column_format="l" + "r" * len(headers), multicol_align="c")
    notes = "".join(
        f"% {escape.one_line(note)}\n"
        for note in (table.ablation.title, *table.notes, r"needs \usepackage{booktabs}")
    )
    return notes + _with_rules(text, [len(group) for group in groups])


def _with_rules(text: str, sizes: Sequence[int]) -> str:
    r"""Put a \midrule after each group of rows but the last."""
    lines = text.split("\n")
    at = lines.index(r"\midrule") + 1
    for size in sizes[:-1]:
        at += size
        lines.insert(at, r"\midrule")
        at += 1
    return "\n".join(lines)


def _headers(table: Table) -> list[Header]:
    """(column, metric) over the cells of a line; a column of differences follows each metric."""
    headers = [(column, metric) for column in table.ablation.columns for metric in table.ablation.metrics]
    if table.settings.baseline is None:
        return headers
    return [entry for column, metric in headers for entry in ((column, metric), (column, f"Δ {metric}"))]


def _texts(table: Table, row: str, show: Any) -> list[str]:
    texts = []
    for column in table.ablation.columns:
        for metric in table.ablation.metrics:
            cell = table.cells.get((row, column, metric))
            texts.append(show(cell, table.digits(metric)) if cell else "")
            if table.settings.baseline is not None:
                texts.append(_delta(cell, table.digits(metric), show) if cell else "")
    return texts


def _published_rows(table: Table) -> list[tuple[str, list[str]]]:
    rows = []
    for row in dict.fromkeys(row for row, _, _ in table.published):
        values = []
        for column in table.ablation.columns:
            for metric in table.ablation.metrics:
                value = table.published.get((row, column, metric))
                values.append("" if value is None else f"{value:.{table.digits(metric)}f}")
                values += [""] if table.settings.baseline is not None else []
        rows.append((row, values))
    return rows


def _markdown_cell(cell: TableCell, digits: int) -> str:
    if cell.summary is None:
        return "--"
    mean = f"{cell.summary.mean:.{digits}f}"
    return f"{f'**{mean}**' if cell.best else mean}{_spread(cell.summary, digits)} {_count(cell)}"


def _latex_cell(cell: TableCell, digits: int) -> str:
    if cell.summary is None:
        return "--"
    mean = f"{cell.summary.mean:.{digits}f}".replace("-", "$-$")
    bold = rf"\textbf{{{mean}}}" if cell.best else mean
    return bold + escape.latex(f"{_spread(cell.summary, digits)} {_count(cell)}")


def _delta(cell: TableCell, digits: int, show: Any) -> str:
    if cell.delta is None:
        return ""
    text = f"{cell.delta.mean:+.{digits}f}{_spread(cell.delta, digits)}"
    return escape.latex(text).replace("-", "$-$") if show is _latex_cell else text


def _spread(summary: Summary, digits: int) -> str:
    return "" if summary.std is None else f" ± {summary.std:.{digits}f}"


def _count(cell: TableCell) -> str:
    """n, or how many of the seeds there are."""
    assert cell.summary is not None
    return f"({cell.summary.n})" if cell.complete else f"({cell.summary.n}/{cell.wanted})†"


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
                "best": cell.best,
                "delta_mean": delta and delta.mean,
                "delta_std": delta and delta.std,
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
    for record in records:
        scores = {name: record.score(name) for name in (*metrics, *names)}
        lines.append(
            {
                "run": record.spec.id,
                "row": escape.csv(record.spec.row),
                "column": escape.csv(record.spec.column),
                "seed": record.spec.seed,
                "state": "unscored" if record.lacking else record.state,
                **{escape.csv(name): score and score.value for name, score in scores.items()},
                "wall_s": record.wall_s,
                "code": record.code,
            }
        )
    return pd.DataFrame(lines).to_csv(index=False)
