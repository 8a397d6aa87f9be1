"""`vocl report`: everything about the runs of a table as one page that opens from disk."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click

from launch.tables import report
from launch.tables.pictures import RowColumn, draw_videos
from launch.tables.tabulate import tabulated
from vocl.command_line import defaults
from vocl.command_line.verb import ABLATIONS, Line, option, verb, words
from vocl.errors import UserError
from vocl.files import refuse_planted, write_text


@verb("report")
@words(
    "NAME [table.KEY=VALUE...] [OVERRIDES...]",
    "An ablation, settings of its table, and overrides for all of its runs.",
    required=True,
    takes=defaults.NAMES,
    offers=(ABLATIONS,),
)
@option(
    "--videos",
    type=click.IntRange(0),
    default=2,
    help="So many of the best and of the worst videos of each row; 0: no pictures, in a second.",
)
@option("--by", metavar="METRIC", help="Metric of the table that ranks videos; by default its first.")
def main(line: Line, videos: int, by: str | None) -> int:
    """Make a page on the runs of an ablation, whatever has become of them.

    The table, learning curves, scores over videos, the best and worst videos with the likeness of slots
    between frames, states and costs of all runs. Writes report.html to <runtime.root>/tables/NAME: one file,
    which needs no network. Returns 0, 1 when videos of a finished run could not be drawn.
    """
    selection, records, table, states, trouble = tabulated(line.words, by_video=True)
    root = selection.root
    metric = by or table.ablation.metrics[0]
    if metric not in table.ablation.metrics:
        raise UserError(f"--by {metric}: choose from {', '.join(table.ablation.metrics)}")
    if trouble:
        print(f"warning: {trouble}; this is what the records say", file=sys.stderr)
    out = root.tables / table.name / report.FILE
    with tempfile.TemporaryDirectory() as folder:
        drawn = draw_videos(records, root, Path(folder), videos, metric) if videos else {}
        page = report.html(table, records, root, states, drawn)
    try:
        refuse_planted(root.tables)
        write_text(out, page)
    except OSError as error:
        raise UserError(f"{out}: cannot write there: {error.strerror}: {error.filename}") from None
    print(out)
    done: set[RowColumn] = {(r.spec.row, r.spec.column) for r in records if r.state == "done"}
    failed = {place: why for place, why in drawn.items() if isinstance(why, str) and place in done}
    for place, why in failed.items():
        print(f"no videos of {', '.join(filter(None, place))}: {why}", file=sys.stderr)
    return int(bool(failed))
