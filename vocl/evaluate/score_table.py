"""The scores of a finished run as a table on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from vocl.errors import printable
from vocl.rundir.result import measure
from vocl.rundir.run_dir import RunDir


def show(run: RunDir) -> None:
    """Print every score of a finished run, and which of its evaluations failed."""
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    found = run.result()
    evals = found.evals
    columns = (Column(Text(printable(name)), overflow="fold") for name in ("metric", *evals))
    table = Table(*columns, title=f"run {found.run_id}, seed {found.seed}")
    names = list(dict.fromkeys(name for entry in evals.values() for name in entry["metrics"]))
    for name in names:
        table.add_row(Text(_headed(evals, name)), *(_spelt(entry, name) for entry in evals.values()))
    console = Console()
    if not console.is_terminal:
        wide = Console(width=1000)
        console = Console(width=max(80, table.__rich_measure__(wide, wide.options).maximum))
    if names:
        console.print(table)
    console.print(str(run.result_path), soft_wrap=True, highlight=False, markup=False)
    for name, why in found.failed.items():
        line = f"eval {name} failed: {why}; to run it again: vocl eval {run.id}"
        print(printable(line), file=sys.stderr)


def _headed(evals: Mapping[str, Any], metric: str) -> str:
    """The name of a score, with an arrow where less is better."""
    entry = next(entry for entry in evals.values() if metric in entry["metrics"])
    arrow = " \N{DOWNWARDS ARROW}" if measure(entry, metric).higher_is_better is False else ""
    return f"{printable(metric)}{arrow}"


def _spelt(entry: Mapping[str, Any], metric: str) -> str:
    """A score as it is stored: a fraction with three decimals, what has a unit with four digits."""
    value = entry["metrics"].get(metric)
    if value is None:
        return "-"
    is_fraction = isinstance(value, float) and measure(entry, metric).is_fraction
    return f"{value:.3f}" if is_fraction else f"{value:.4g}"
