"""`vocl search`: try settings from a declared space, and train the good ones to their end."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Container, Sequence
from contextlib import suppress
from typing import NamedTuple

from launch.commands.submit import tell
from launch.commands.tend import WATCH_S, tend
from launch.run_states import text_table
from launch.search import board, declared, sampling
from launch.search.handing import Handing
from launch.search.progress import Progress
from launch.search.records import SearchIsTaken, SearchRecords
from launch.search.standing import Standing
from launch.selection.selector import ChosenRuns
from launch.selection.submitted import PlacedRun, root_in
from launch.slurm.client import SlurmError, announced
from launch.submission import tend_job
from launch.submission.enqueue import recover
from launch.submission.job_config import PATHS
from vocl.command_line import defaults
from vocl.command_line.verb import GROUPS, SEARCHES, Line, option, verb, words
from vocl.config.cluster import LocalCluster
from vocl.config.compose import project_of
from vocl.config.grammar import key_of, setting, text_of
from vocl.files import user_path
from vocl.stop import EXIT_STOPPED

ARM_S = 60  # a job that calls it again begins at the earliest so late


@verb("search")
@words(
    "NAME [OVERRIDES...] [cluster=NAME]",
    "A file of conf/search, and overrides for all of its trials; by default those it began with.",
    names=1,
    takes=defaults.PLACED,
    offers=(SEARCHES, GROUPS),
)
@option("--watch", is_flag=True, help="On SLURM: repeat until all trials have come as far as they will.")
@option("--arm", is_flag=True, help="On SLURM: queue a one-core job that calls it again when a run is over.")
@option("--table", "shows", is_flag=True, help="List the trials with their values, and the best; no more.")
def main(line: Line, watch: bool, arm: bool, shows: bool) -> int:
    """Try settings of the space that NAME declares, and train the good ones to their end.

    Call it again to go on, after any interruption. On SLURM a call is one pass: it begins what there is room
    for and returns. Returns 0, 1 when SLURM refused or a run failed here, 75 when stopped.
    """
    progress = progress_of(line.names[0], line.overrides)
    if shows:
        found, _, trouble = progress.look()
        lines = [*board.table(progress, found), board.summary(progress, found)]
        text_table.write([*lines, *board.best_lines(progress, found)])
        _complain(trouble)
        return 0
    sampling.require()
    cluster = progress.config.cluster
    if isinstance(cluster, LocalCluster):
        return _here(progress, cluster.slots)
    lasts = watch or (arm and "SLURM_JOB_ID" in os.environ)
    while True:
        done = _tried(progress, lasts)
        if done is not None and done.is_refused:
            return 1
        if done is not None and done.answered:
            queued = not arm or tend_job.schedule(_chosen(progress, done.found), ARM_S, "search")
            if queued and (not watch or progress.is_over(done.found)):
                return 0
        if not lasts:
            return 1
        time.sleep(WATCH_S)


class Pass(NamedTuple):
    """What a pass came to: how the trials stand, whether SLURM answered, and whether it refused runs that it
    will refuse again; a limit that is reached is no refusal."""

    found: list[Standing]
    answered: bool
    is_refused: bool = False


def _tried(progress: Progress, lasts: bool) -> Pass | None:
    """A pass; None where, for now, a disk or another process stands in its way and it is to go on (`lasts`):
    nobody else would."""
    try:
        return _pass(progress)
    except (SearchIsTaken, OSError) as error:
        if not lasts:
            raise
        print(f"{time.strftime('%F %T')} {error}; tried again", file=sys.stderr)
        return None


def progress_of(name: str, overrides: Sequence[str]) -> Progress:
    """The search `name` as it stands, or as it would begin."""
    records = SearchRecords(root_in(overrides)[0].absolute(), name)
    begun = records.begun()
    given = [_absolute(word) for word in overrides]  # a job that calls it again starts in another folder
    known = _merged(begun[0], given) if begun else given
    found = declared.read(name, project_of(known))
    progress = Progress(found, tuple(known), records)
    progress.refuse_changes()
    return progress


def _absolute(word: str) -> str:
    """An override that says a path, by an absolute one."""
    key, _, value = word.partition("=")
    paths = ("project", *(f"runtime.{each}" for each in PATHS))
    return setting(key, user_path(text_of(value)).absolute()) if key in paths else word


def _merged(before: Sequence[str], now: Sequence[str]) -> list[str]:
    """The words of the command that began it, those of this one in their place where both say the same; a
    cluster is chosen as a whole."""
    keys = {key_of(word) for word in now}
    anew = "cluster" in keys
    kept = [w for w in before if not (anew and key_of(w).partition(".")[0] == "cluster")]
    return [*(word for word in kept if key_of(word) not in keys), *now]


def _here(progress: Progress, slots: int) -> int:
    with progress.records.held():
        progress.begin()
        code = Handing(progress, slots).run_here()
        found, _, _ = progress.look()
    _tell(progress, found)
    if code == EXIT_STOPPED:
        print(f"stopped; to go on: vocl search {progress.search.name}", file=sys.stderr)
    return code


def _pass(progress: Progress) -> Pass:
    """One pass on SLURM: collect, decide, queue."""
    with progress.records.held(), announced():
        progress.begin()
        found, states, trouble = progress.look()
        going = [(each, run) for each in found if each.is_going for run in each.left]
        runs = [run for _, run in going if states[run].claim is not None]
        with suppress(SlurmError):
            recover(progress.records.root, runs)
        if runs:
            trouble = tend(_chosen(progress, found, set(runs))).trouble or trouble
        if trouble:
            return Pass(found, not _complain(trouble))
        handing = Handing(progress)
        found, states, trouble = handing.settle()
        if trouble:
            return Pass(found, not _complain(trouble))
        queued = handing.queue(found, states)
        tell(queued, progress.records.root)
    _tell(progress, found)
    return Pass(found, True, bool(queued.refused) and not (queued.cause and queued.cause.is_limit))


def _chosen(progress: Progress, found: Sequence[Standing], among: Container[str] | None = None) -> ChosenRuns:
    """The runs that are under way, or those `among` them."""
    name = progress.search.name
    going = [(each, run) for each in found if each.is_going for run in each.left]
    kept = [(each, run) for each, run in going if among is None or run in among]
    places = [PlacedRun(each.trial.label, "", None, run) for each, run in kept]
    return ChosenRuns(progress.records.root, {name: places}, name if among is None else None, (), None)


def _tell(progress: Progress, found: list[Standing]) -> None:
    print(board.summary(progress, found))
    for told in board.best_lines(progress, found):
        print(told, flush=True)


def _complain(trouble: str) -> int:
    if trouble:
        print(f"warning: {trouble}; this is what the records say", file=sys.stderr)
    return int(bool(trouble))
