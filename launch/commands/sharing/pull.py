"""`vocl pull`: the runs of another results folder, of this machine or another, merged by run id."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.run_states.states import LIVE, UNKNOWN, RunState, look
from launch.selection.selector import results_root
from launch.submission.job_config import PATHS
from vocl.command_line import defaults
from vocl.command_line.verb import Line, verb, words
from vocl.config import identity
from vocl.config.compose import compose
from vocl.config.migrate import migrate
from vocl.config.schema import Config
from vocl.errors import UserError, printable
from vocl.files import TEMPORARY, make_folder, user_path
from vocl.rundir import claims
from vocl.rundir.checkpoint_files import frozen_name, is_frozen_intact
from vocl.rundir.records import Records
from vocl.rundir.results_root import RUNS, ResultsRoot
from vocl.rundir.run_dir import CONFIG, HEARTBEAT, RESULT, STALE_S, RunDir

REMOTE = re.compile(r"(?:[\w.-]+@)?[A-Za-z0-9][\w.-]*:.+")
ID = re.compile(r"[0-9a-f]{10}")
VANISHED = 24  # rsync: a file was removed while it copied, as running jobs do with checkpoints


@verb("pull")
@words(
    "[USER@]HOST:PATH | PATH [runtime.root=HERE]",
    "A results folder (with runs/).",
    names=1,
    keys=defaults.OF_ROOT,
    takes=defaults.ROOT,
)
def main(line: Line) -> int:
    """Merge another results folder, of this machine or another, by run id.

    A run that is done here is kept; one that is done there replaces an unfinished one; what is
    unfinished on both sides, or may still be worked on, is reported and left alone. Returns 0.
    """
    (place,), root = line.names, results_root(line.words)
    try:
        make_folder(root.runs_path)
    except OSError as error:
        raise UserError(f"runtime.root={root}: cannot write there: {error.strerror}") from None
    with (
        tempfile.TemporaryDirectory(dir=root.path, prefix=f"{TEMPORARY}pull-") as temporary,
        _source(place, root, Path(temporary)) as source,
    ):
        counts = _merge(source, root, Path(temporary))
    told = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
    print(f"{place}: {told or 'nothing new'}")
    return 0


@dataclass(frozen=True)
class _Source:
    """Other runs, here or fetched to here."""

    runs: ResultsRoot
    take: Callable[[Path, Path], Any]  # brings the folder of a run to a new place on root's file system
    is_alive: Callable[[RunDir], bool]  # whether a process lives that works on the run


@contextmanager
def _source(place: str, root: ResultsRoot, temporary: Path) -> Iterator[_Source]:
    local = ResultsRoot.of(place)
    if local.path.exists() or not REMOTE.fullmatch(place):
        if not local.runs_path.is_dir():
            raise UserError(f"{place}: no results folder (it has no {RUNS}/)")
        if local.path.resolve() == root.path.resolve():
            raise UserError(f"{place}: is this very results folder")
        yield _Source(local, _copy, _is_alive_here)
        return
    fetched = ResultsRoot(temporary / "fetched")
    fetched.path.mkdir()
    if shutil.which("rsync"):
        known = temporary / "known"
        done = [run for run in root.run_ids() if root.run(run).is_done()]
        known.write_text("".join(f"/{name}/\n" for name in done))
        _call(
            *("rsync", "-a", "--no-links", "--no-D", f"--exclude-from={known}"),  # no pipes, no devices
            *("--", f"{place}/{RUNS}/", f"{fetched.runs_path}/"),
        )
    elif shutil.which("scp"):
        _call("scp", "-rpq", "--", f"{place}/{RUNS}", str(fetched.runs_path))
    else:
        raise UserError(f"{place}: neither rsync nor scp on this machine")
    later = _Later(place, temporary, time.monotonic())
    yield _Source(fetched, lambda old, new: old.rename(new), later.is_alive)


def _is_alive_here(run: RunDir) -> bool:
    return run.is_alive(run.beat(), 2 * STALE_S)


@dataclass(frozen=True)
class _Later:
    """Second looks at signs of life that were fetched from `place` at `began`: nothing here tells the time by
    the clock of the file server there."""

    place: str
    temporary: Path
    began: float

    def is_alive(self, run: RunDir) -> bool:
        """Whether a run has given another sign of life since it was fetched; waits until it should have."""
        before = run.beat()
        if before is None:
            return False
        left_s = STALE_S - (time.monotonic() - self.began)
        if left_s > 0:
            print(f"{run.id} may be running there: looking again in {left_s:.0f} s", file=sys.stderr)
            time.sleep(left_s)
        again = RunDir(self.temporary / "again" / run.id)
        again.path.mkdir(parents=True)
        tool = ("rsync", "-a") if shutil.which("rsync") else ("scp", "-pq")
        theirs = f"{self.place}/{RUNS}/{run.id}/{HEARTBEAT}"
        _call(*tool, "--", theirs, str(again.beat_path))
        return again.beat() != before


def _call(*command: str) -> None:
    done = subprocess.run(command, stdin=None, stderr=subprocess.PIPE, text=True)
    if done.returncode not in (0, VANISHED):
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        reason = lines[0] if lines else f"exit code {done.returncode}"
        raise UserError(f"{command[-2]}: {command[0]}: {reason}")


def _copy(old: Path, new: Path) -> None:
    """Copy folders and plain files: a link may lead anywhere, a pipe has no end."""

    def others(folder: str, names: list[str]) -> list[str]:
        modes = {name: os.lstat(os.path.join(folder, name)).st_mode for name in names}
        return [name for name, mode in modes.items() if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))]

    shutil.copytree(old, new, ignore=others)


def _merge(source: _Source, root: ResultsRoot, temporary: Path) -> Counter[str]:
    counts: Counter[str] = Counter()
    runs = [run for run in source.runs.run_ids() if source.runs.run(run).has_config()]
    states, _ = look(root, [run for run in runs if ID.fullmatch(run)])
    for run in runs:
        theirs, ours = source.runs.run(run), root.run(run)
        if ours.is_done():
            counts["done here already"] += 1
            continue
        trouble = _why_not(theirs, ours, states.get(run), source.is_alive)
        if trouble:
            print(printable(f"not pulled: {run}: {trouble}"))
            counts["not pulled"] += 1
            continue
        fresh = RunDir(temporary / run)
        # looked at once more as it came: it may have been moving while it was copied
        trouble = _taken(source, theirs, fresh) or (
            _broken(fresh) if fresh.has_result_file() else _moving(fresh)
        )
        if not trouble and theirs.path.is_dir() and not fresh.has_result_file():
            trouble = _moving(theirs, source.is_alive)
        if trouble:
            print(printable(f"not pulled: {run}: {trouble}; pull again"))
            counts["not pulled"] += 1
            continue
        _settle(fresh, root)
        if ours.path.exists():
            ours.path.rename(temporary / f"{run}.replaced")
        fresh.path.rename(ours.path)
        counts["pulled"] += 1
    return counts


def _taken(source: _Source, theirs: RunDir, fresh: RunDir) -> str:
    """Take a run; what kept it from coming whole, or ""."""
    try:
        source.take(theirs.path, fresh.path)
    except shutil.Error as error:  # of each file (source, copy, why)
        return "; ".join(f"cannot be read: {why}" for _, _, why in error.args[0][:1])
    except OSError as error:
        return f"cannot be read: {error.filename}: {error.strerror}"
    return "" if fresh.config_as_saved() else f"its {CONFIG} is no plain file"


def _why_not(theirs: RunDir, ours: RunDir, here: RunState | None, is_alive: Callable[[RunDir], bool]) -> str:
    """What speaks against taking a run; "" if nothing."""
    if not ID.fullmatch(theirs.id) or here is None:
        return "its name is no run id"
    config = theirs.config_as_saved()
    if not config or _id_of(config) != theirs.id:
        return f"its {CONFIG} describes another run"
    if here.name in (*LIVE, UNKNOWN):
        return f"{here.name} here"
    if theirs.has_result_file():
        return ""
    if ours.path.exists() and here.name != "absent":
        return f"unfinished there, and {here.name} here; finish it in one place"
    return _moving(theirs, is_alive)


def _moving(run: RunDir, is_alive: Callable[[RunDir], bool] | None = None) -> str:
    """Whether somebody may be at an unfinished run, as far as its records and its signs of life tell."""
    claim = claims.newest(run)
    if claim is not None and claim.is_lost:
        return f"unfinished, and nobody knows who has it: damaged record: {', '.join(claim.damaged)}"
    if claim is not None and claim.end is None:
        return f"unfinished, and its job there has not said that it is over (claim of {claim.user})"
    if is_alive is not None and Records(run).end_name is None and is_alive(run):
        return "is running there"
    return ""


def _broken(run: RunDir) -> str:
    """What a finished run lacks or has damaged, so that it could not be evaluated here; "" if nothing.

    That frozen weights are not there at all is not seen: torch alone could tell that they belong there.
    """
    found = run.result_or_none()
    if found is None:
        return f"its {RESULT} is damaged"
    lacking = [e["rows"] for e in found.evals.values() if not (run.path / e["rows"]).is_file()]
    lacking += _lacking_weights(run)
    return f"incomplete: {', '.join(lacking)}" if lacking else ""


def _lacking_weights(run: RunDir) -> list[str]:
    """What is missing or damaged among a finished run's checkpoints."""
    files = run.checkpoint_files()
    if not files:
        return ["no checkpoint"]
    found = [f"{file.path.name} is damaged" for file in files if not file.is_intact]
    frozen = sorted(run.checkpoints.glob(frozen_name("*")))
    return found + [f"{path.name} is damaged" for path in frozen if not is_frozen_intact(path)]


def _id_of(config: Config) -> str | None:
    try:
        return identity.run_id(migrate(config))
    except (UserError, KeyError, TypeError, AttributeError):
        return None


def _settle(run: RunDir, root: ResultsRoot) -> None:
    """Put this machine's folders into the config, and say where it brings code of its own."""
    config = run.config_as_saved()
    assert config, run
    own = compose([])["runtime"] | {"root": str(root)}
    config["runtime"] |= {key: str(user_path(own[key]).absolute()) for key in PATHS}
    run.write_config(config)
    if config.get("project") is not None:
        line = f"note: {run.id} imports code of its own from {config['project']} when it is used"
        print(printable(line))
