"""`vocl gc`: what lies in a results folder and nothing needs any more. Never a run's own files.

Needed are: the snapshot of the newest claim of every run that is not done, everything of a submission
that has an open claim or whose submitter may be at it, and what was written within the last hour.
While the newest claim of such a run cannot be read, every submission and every snapshot may be its
own; while a submission that is needed cannot be read, every snapshot may be. What has no name of ours, or
lies behind a link of another user's, is nobody's waste.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from launch.selection.selector import results_root
from launch.slurm import ledger
from launch.submission import tend_job
from vocl.command_line import defaults
from vocl.command_line.verb import Line, option, verb, words
from vocl.errors import UserError, printable
from vocl.files import TEMPORARY, read_bytes, refuse_planted
from vocl.rundir import claims, file_times
from vocl.rundir.checkpoint_files import frozen_name
from vocl.rundir.claims import Claim
from vocl.rundir.results_root import ResultsRoot

RECENT_S = 3600.0
FROZEN = frozen_name("*")
TOKEN, DIGEST = re.compile("[0-9a-f]{10}"), re.compile("[0-9a-f]{16}")  # names of submissions and snapshots


@dataclass(frozen=True)
class Waste:
    """Something to remove, and why nothing needs it."""

    path: Path
    reason: str

    @property
    def size(self) -> int:
        """Bytes."""
        paths = [self.path, *self.path.rglob("*")] if _is_folder(self.path) else [self.path]
        return sum(path.lstat().st_size for path in paths if path.is_symlink() or path.is_file())


@verb("gc")
@words("[runtime.root=PATH]", "The results folder.", names=0, keys=defaults.OF_ROOT, takes=defaults.ROOT)
@option("--yes", is_flag=True, help="Remove it.")
def main(line: Line, yes: bool) -> int:
    """List what lies in a results folder and nothing needs any more; returns 0."""
    root = results_root(line.words)
    if not root.runs_path.is_dir():
        raise UserError(f"runtime.root={root}: no results folder")
    try:
        for place in root.folders:
            refuse_planted(place)
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}") from None
    total = 0
    for waste in find(root):
        with suppress(FileNotFoundError):
            total += waste.size
            print(printable(f"{waste.path.relative_to(root.path)}: {waste.reason}"))
            if yes:
                _remove(waste.path)
    print(f"{total / 1e6:.1f} MB {'removed' if yes else 'could be removed: vocl gc --yes'}")
    return 0


def find(root: ResultsRoot) -> Iterator[Waste]:
    """All waste under the results folder `root`."""
    owners, unread = _owners(root)
    unfinished = [claim for claim in owners if not claim.run.is_done()]
    found = [*_temporary(root)]
    if not unread and not any(claim.is_lost for claim in unfinished):
        found += _submissions(root, {claim.token for claim in unfinished if claim.end is None})
        found += _snapshots(root, {claim.token for claim in unfinished})
    yield from (waste for waste in [*found, *_weights(root), *_links(root)] if not _is_recent(waste.path))


def _owners(root: ResultsRoot) -> tuple[list[Claim], int]:
    """The newest claims of all runs, and of how many runs nobody can tell, which is said."""
    found, unread = [], 0
    for run in root.run_ids():
        try:
            found.append(claims.newest(root.run(run)))
        except OSError as error:
            unread += 1
            print(printable(f"warning: {run}: {error.strerror}: {error.filename}"), file=sys.stderr)
    return [claim for claim in found if claim is not None], unread


def _submissions(root: ResultsRoot, open_tokens: set[str]) -> Iterator[Waste]:
    """Scripts and pickles of submissions that are over; the entries themselves are history."""
    for folder in sorted(root.ledger.glob("*/")):
        if TOKEN.fullmatch(folder.name) and folder.name not in open_tokens:
            yield Waste(folder, "its submission is over")


def _snapshots(root: ResultsRoot, tokens: set[str]) -> Iterator[Waste]:
    recent = [path for path in root.ledger.glob("*.json") if _is_recent(path)]
    tokens = tokens | {path.stem for path in recent if "." not in path.stem}
    if any(ledger.damaged(root, token) for token in tokens):
        return
    entries = [ledger.read(root, token) for token in tokens]
    needed = {entry.snapshot for entry in entries if entry is not None}
    needed |= {_named(script) for script in root.ledger.glob(f"{tend_job.PREFIX}*.sh")}
    for folder in sorted(root.snapshots.glob("*/")):
        if DIGEST.fullmatch(folder.name) and folder.name not in needed:
            yield Waste(folder, "code that no unfinished run was submitted with")


def _named(script: Path) -> str:
    """The snapshot that a script imports, by the folder's name."""
    head = read_bytes(script).decode(errors="replace").partition("/snapshots/")[2]
    return head[:16]


def _temporary(root: ResultsRoot) -> Iterator[Waste]:
    """What killed processes left unfinished; runs that are worked on sweep their own."""
    for place in root.folders:
        for path in sorted(place.rglob(f"{TEMPORARY}*")):
            if TEMPORARY not in str(path.parent.relative_to(root.path)):
                yield Waste(path, "unfinished")


def _weights(root: ResultsRoot) -> Iterator[Waste]:
    """Frozen weights that no run links. Where links cannot be made each run has a copy of its own."""
    used = {path.name for run in root.run_ids() for path in root.run(run).checkpoints.glob(FROZEN)}
    for path in sorted(root.weights.glob(FROZEN)):
        if path.name not in used:
            yield Waste(path, "frozen weights of no run")


def _links(root: ResultsRoot) -> Iterator[Waste]:
    for path in sorted(root.by_name.rglob("*")):
        if path.is_symlink() and not path.exists():
            yield Waste(path, "its run is gone")


def _is_recent(path: Path) -> bool:
    """Whether it was written lately, or is gone: a process may be about to need it."""
    age = file_times.age_s(path)
    return age is None or age < RECENT_S


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _remove(path: Path) -> None:
    """A folder leaves its name at once, so that nobody takes half of it for the whole."""
    if not _is_folder(path):
        path.unlink()
        return
    gone = path.with_name(f"{TEMPORARY}gone-{path.name}")
    path.rename(gone)
    shutil.rmtree(gone)
