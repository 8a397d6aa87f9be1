"""`vocl table`: from the records of runs to a table with mean, deviation and count per cell."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from launch.selection.plan import Selection
from launch.selection.submitted import read_table
from launch.tables import render
from launch.tables.pictures import draw, drop_of_others
from launch.tables.tabulate import tabulated
from vocl.command_line import defaults
from vocl.command_line.verb import ABLATIONS, Line, option, verb, words
from vocl.errors import UserError
from vocl.files import refuse_planted


@verb("table")
@words(
    "NAME [table.KEY=VALUE...] [OVERRIDES...]",
    "An ablation, settings of its table, and overrides for all of its runs.",
    required=True,
    takes=defaults.NAMES,
    offers=(ABLATIONS,),
)
@option(
    "--pictures", is_flag=True, help="Also a contact sheet per row and column, of the first finished run."
)
def main(line: Line, pictures: bool) -> int:
    """Make the table of an ablation: mean, deviation and count per cell.

    Writes table.md, table.csv, table.tex, runs.csv and table.html to <runtime.root>/tables/NAME and prints
    the first.
    """
    selection, records, table, _, trouble = tabulated(line.words)
    place = selection.root.tables / table.name
    if trouble:
        print(f"warning: {trouble}; this is what the records say", file=sys.stderr)
    with _writing(place):
        refuse_planted(selection.root.tables)
        render.write(table, records, selection.root)
        drop_of_others(records, place)
    print(render.markdown(table))
    print(", ".join(str(place / name) for name in render.FILES))
    _tell_others(selection, table.name)
    if not pictures:
        return 0
    drawn = draw(records, selection.root, place)
    with _writing(place):
        render.write_page(table, records, selection.root, drawn)
    return int(
        len(drawn) < len({(each.spec.row, each.spec.column) for each in records if each.state == "done"})
    )


@contextmanager
def _writing(place: Path) -> Iterator[None]:
    """What a full or read-only folder says, in one line."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{place}: cannot write there: {error.strerror}: {error.filename}") from None


def _tell_others(selection: Selection, name: str) -> None:
    """Say so if other runs were submitted under the name: their table has other overrides."""
    stored = read_table(selection.root, name)
    if stored and not {entry.id for entry in stored.entries} <= {spec.id for spec in selection.specs}:
        words = shlex.join(a for a in stored.arguments if not a.startswith(("runtime.root=", "cluster")))
        print(f"note: submitted last was another table: vocl table {words}", file=sys.stderr)
