"""`vocl tag`: tags and notes on runs. They are no part of a run's identity, and change nothing about it."""

from __future__ import annotations

import re
from dataclasses import replace

from launch.selection.selector import resolve
from launch.selection.submitted import is_word
from vocl.command_line import defaults
from vocl.command_line.verb import ABLATIONS, RUNS, Line, option, verb, words
from vocl.errors import UserError
from vocl.rundir.run_dir import Remarks, RunDir

TAG = re.compile(r"\w[\w.:-]*")


@verb("tag")
@words(
    "RUN... TAG",
    "Run ids, their beginnings, or ablations that were submitted; then the tag, unless --note is given.",
    required=True,
    takes=defaults.ROOT,
    offers=(RUNS, ABLATIONS),
)
@option("--remove", is_flag=True, help="Take the tag away; with --note '' the note.")
@option("--note", help="Say this of the runs, instead of a tag.")
def main(line: Line, remove: bool, note: str | None) -> int:
    """Give runs a tag, or a note; prints what they have then. Always 0."""
    names = [word for word in line.names if is_word(word)]
    if not names:
        raise UserError("usage: vocl tag RUN... TAG, or vocl tag RUN... --note TEXT")
    tag = None if note is not None else names[-1]
    if tag is not None and not TAG.fullmatch(tag):
        raise UserError(f"{tag}: not a tag; letters, digits and _ . : - do")
    chosen = names if tag is None else names[:-1]
    if not chosen:
        raise UserError("usage: vocl tag RUN... TAG, or vocl tag RUN... --note TEXT")
    target = resolve([*chosen, *line.overrides], compose=False)
    runs = [target.root.run(run) for run in target.runs]
    if absent := [run.id for run in runs if not run.path.is_dir()]:
        raise UserError(f"{', '.join(absent)}: not on disk yet, so there is nothing to tag")
    for run in runs:
        _change(run, tag, note, remove)
    return 0


def _change(run: RunDir, tag: str | None, note: str | None, remove: bool) -> None:
    def changed(before: Remarks) -> Remarks:
        if tag is None:
            return before if note is None else replace(before, note=" ".join(note.split()))
        others = tuple(each for each in before.tags if each != tag)
        return replace(before, tags=others if remove else (*others, tag))

    print(_told(run, run.change_remarks(changed)))


def _told(run: RunDir, remarks: Remarks) -> str:
    note = f" ({remarks.note})" if remarks.note else ""
    return f"{run.id}: {' '.join(remarks.tags) or 'no tags'}{note}"
