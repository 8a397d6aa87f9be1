r"""A table as LaTeX: a bare booktabs tabular to \input, or by a template of the user's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from launch import escape
from launch.tables.grid import NOTHING, Grid, Shown, grid
from launch.tables.latex_template import filled

if TYPE_CHECKING:
    from launch.tables.model import Table

AS_CODES = rf"\providecommand{{{escape.FOREIGN}}}[2]{{#2}}"  # unless the document says otherwise


def latex(table: Table) -> str:
    """The content of table.tex: what needs to be known first, as comments, then the tabular."""
    found = grid(table)
    tabular = _tabular(found)
    packages = r"\usepackage{booktabs}"
    if table.settings.fit:
        tabular = f"\\resizebox{{\\columnwidth}}{{!}}{{%\n{tabular.rstrip()}%\n}}\n"
        packages += r" and \usepackage{graphicx}"
    if table.settings.template is not None:
        return _with_codes(filled(table.settings.template, _parts(table, found, tabular)))
    comments = [table.ablation.title, *table.notes, f"needs {packages}"]
    if escape.FOREIGN in tabular:
        comments.append(rf"\newcommand{{{escape.FOREIGN}}}[2]{{#1}} where fonts have all signs, not U+ codes")
    return "".join(f"% {escape.one_line(comment)}\n" for comment in comments) + _with_codes(tabular)


def _with_codes(text: str) -> str:
    return f"{AS_CODES}%\n{text}" if escape.FOREIGN in text else text


def _tabular(found: Grid) -> str:
    """Rules between groups and above published rows."""
    import pandas as pd

    lines = [(escape.latex(label), [_cell(cell) for cell in cells]) for label, cells in found.lines]
    headers = [tuple(escape.latex(part) for part in header) for header in found.headers]
    columns: Any = pd.MultiIndex.from_tuples(headers)
    if not any(second for _, second in headers):
        columns = [first for first, _ in headers]
    frame = pd.DataFrame([cells for _, cells in lines], index=[label for label, _ in lines], columns=columns)
    text = frame.style.to_latex(hrules=True, column_format="l" + "r" * len(headers), multicol_align="c")
    return _with_rules(text, [len(group) for group in found.groups])


def _cell(cell: Shown) -> str:
    number = _number(cell)
    mean = rf"\textbf{{{number}}}" if cell.best else rf"\underline{{{number}}}" if cell.second else number
    rest = replace(cell, mean="").plain
    return f"{mean}{' ' if rest.startswith(' ') else ''}{escape.latex(rest)}"


def _number(cell: Shown) -> str:
    return cell.mean if cell.mean == NOTHING else cell.mean.replace("-", "$-$")


def _with_rules(text: str, sizes: Sequence[int]) -> str:
    r"""Put a \midrule after each group of rows but the last."""
    lines = text.split("\n")
    at = lines.index(r"\midrule") + 1
    for size in sizes[:-1]:
        at += size
        lines.insert(at, r"\midrule")
        at += 1
    return "\n".join(lines)


def _parts(table: Table, found: Grid, tabular: str) -> dict[str, Any]:
    """What a template lays out; all texts are LaTeX."""
    return {
        "title": escape.latex(table.ablation.title),
        "notes": [escape.latex(note) for note in table.notes],
        "columns": [
            {"name": escape.latex(first), "metric": escape.latex(second)} for first, second in found.headers
        ],
        "groups": [[_line(label, cells) for label, cells in group] for group in found.groups],
        "tabular": tabular,
    }


def _line(label: str, cells: Sequence[Shown]) -> dict[str, Any]:
    return {"label": escape.latex(label), "cells": [_shown(cell) for cell in cells]}


def _shown(cell: Shown) -> dict[str, Any]:
    """A cell as a whole, and its pieces."""
    pieces = {key: escape.latex(getattr(cell, key).strip()) for key in ("spread", "count", "mark", "gaps")}
    flags = {"best": cell.best, "second": cell.second}
    return {"text": _cell(cell), "mean": _number(cell), **pieces, **flags}
