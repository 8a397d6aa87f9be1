"""`vocl table`: from the records of runs to a table with mean, deviation and count per cell."""

from __future__ import annotations

import shlex
import sys

from launch.selection.plan import Selection
from launch.selection.submitted import read_table
from launch.tables import render
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
    selection, records, table = tabulated(line.words)
    place = selection.root.tables / table.name
    try:
        refuse_planted(selection.root.tables)
        render.write(table, records, selection.root)
    except OSError as error:
        raise UserError(f"{place}: cannot write there: {error.strerror}: {error.filename}") from None
    print(render.markdown(table))
    print(", ".join(str(place / name) for name in render.FILES))
    _tell_others(selection, table.name)
    if pictures:
        from launch.tables.pictures import draw

        drawn = draw(records, selection.root, place)
        render.write(table, records, selection.root, drawn)
        return int(len(drawn) < len({(r.spec.row, r.spec.column) for r in records if r.state == "done"}))
    return 0


def _tell_others(selection: Selection, name: str) -> None:
    """Say so if other runs were submitted under the name: their table has other overrides."""
    stored = read_table(selection.root, name)
    if stored and not {entry.id for entry in stored.entries} <= {spec.id for spec in selection.specs}:
        words = shlex.join(a for a in stored.arguments if not a.startswith(("runtime.root=", "cluster")))
        print(f"note: submitted last was another table: vocl table {words}", file=sys.stderr)
