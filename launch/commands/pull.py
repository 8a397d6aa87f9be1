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

import yaml

from launch.run_states import alive
from launch.run_states.records import Records
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
from vocl.rundir import claims, events, result
from vocl.rundir.checkpoint_files import checkpoints, frozen_name, is_frozen_intact
from vocl.rundir.find import all_runs
from vocl.rundir.saved_config import raw_config

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
        make_folder(root / "runs")
    except OSError as error:
        raise UserError(f"runtime.root={root}: cannot write there: {error.strerror}") from None
    with (
        tempfile.TemporaryDirectory(dir=root, prefix=f"{TEMPORARY}pull-") as temporary,
        _source(place, root, Path(temporary)) as source,
    ):
        counts = _merge(source, root, Path(temporary))
    told = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
    print(f"{place}: {told or 'nothing new'}")
    return 0


@dataclass(frozen=True)
class _Source:
    """Other runs, here or fetched to here."""

    runs: Path
    take: Callable[[Path, Path], Any]  # brings the folder of a run to a new place on root's file system
    beats: Callable[[Path], bool]  # whether a process lives that works on the run in that folder


@contextmanager
def _source(place: str, root: Path, temporary: Path) -> Iterator[_Source]:
    local = user_path(place)
    if local.exists() or not REMOTE.fullmatch(place):
        if not (local / "runs").is_dir():
            raise UserError(f"{place}: no results folder (it has no runs/)")
        if local.resolve() == root.resolve():
            raise UserError(f"{place}: is this very results folder")
        yield _Source(local / "runs", _copy, _beats_here)
        return
    fetched = temporary / "fetched"
    fetched.mkdir()
    if shutil.which("rsync"):
        known = temporary / "known"
        done = [run for run in all_runs(root) if result.is_done(root / "runs" / run)]
        known.write_text("".join(f"/{name}/\n" for name in done))
        _call(
            *("rsync", "-a", "--no-links", "--no-D", f"--exclude-from={known}"),  # no pipes, no devices
            *("--", f"{place}/runs/", f"{fetched}/runs/"),
        )
    elif shutil.which("scp"):
        _call("scp", "-rpq", "--", f"{place}/runs", f"{fetched}/runs")
    else:
        raise UserError(f"{place}: neither rsync nor scp on this machine")
    later = _Later(place, temporary, time.monotonic())
    yield _Source(fetched / "runs", lambda old, new: old.rename(new), later.beats)


def _beats_here(folder: Path) -> bool:
    return alive.beats(folder, events.heartbeat(folder), 2 * alive.STALE_S)


@dataclass(frozen=True)
class _Later:
    """Second looks at heartbeats that were fetched from `place` at `began`: nothing here tells the time by
    the clock of the file server there."""

    place: str
    temporary: Path
    began: float

    def beats(self, folder: Path) -> bool:
        """Whether the heartbeat of a run has changed since it was fetched; waits until it should have."""
        before = events.heartbeat(folder)
        if before is None:
            return False
        left_s = alive.STALE_S - (time.monotonic() - self.began)
        if left_s > 0:
            print(f"{folder.name} may be running there: looking again in {left_s:.0f} s", file=sys.stderr)
            time.sleep(left_s)
        again = self.temporary / "again" / folder.name
        again.mkdir(parents=True)
        tool = ("rsync", "-a") if shutil.which("rsync") else ("scp", "-pq")
        _call(*tool, "--", f"{self.place}/runs/{folder.name}/heartbeat.json", f"{again}/heartbeat.json")
        return events.heartbeat(again) != before


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


def _merge(source: _Source, root: Path, temporary: Path) -> Counter[str]:
    counts: Counter[str] = Counter()
    runs = sorted(folder.name for folder in source.runs.iterdir() if (folder / "config.yaml").is_file())
    states, _ = look(root, [run for run in runs if ID.fullmatch(run)])
    for run in runs:
        theirs, ours = source.runs / run, root / "runs" / run
        if result.is_done(ours):
            counts["done here already"] += 1
            continue
        trouble = _why_not(theirs, ours, states.get(run), source.beats)
        if trouble:
            print(printable(f"not pulled: {run}: {trouble}"))
            counts["not pulled"] += 1
            continue
        fresh = temporary / run
        # looked at once more as it came: it may have been moving while it was copied
        trouble = _taken(source, theirs, fresh) or (
            _broken(fresh) if (fresh / "result.json").is_file() else _moving(fresh)
        )
        if not trouble and theirs.is_dir() and not (fresh / "result.json").is_file():
            trouble = _moving(theirs, source.beats)
        if trouble:
            print(printable(f"not pulled: {run}: {trouble}; pull again"))
            counts["not pulled"] += 1
            continue
        _settle(fresh, root)
        if ours.exists():
            ours.rename(temporary / f"{run}.replaced")
        fresh.rename(ours)
        counts["pulled"] += 1
    return counts


def _taken(source: _Source, theirs: Path, fresh: Path) -> str:
    """Take a run; what kept it from coming whole, or ""."""
    try:
        source.take(theirs, fresh)
    except shutil.Error as error:  # of each file (source, copy, why)
        return "; ".join(f"cannot be read: {why}" for _, _, why in error.args[0][:1])
    except OSError as error:
        return f"cannot be read: {error.filename}: {error.strerror}"
    return "" if raw_config(fresh) else "its config.yaml is no plain file"


def _why_not(theirs: Path, ours: Path, here: RunState | None, beats: Callable[[Path], bool]) -> str:
    """What speaks against taking a run; "" if nothing."""
    if not ID.fullmatch(theirs.name) or here is None:
        return "its name is no run id"
    config = raw_config(theirs)
    if not config or _id_of(config) != theirs.name:
        return "its config.yaml describes another run"
    if here.name in (*LIVE, UNKNOWN):
        return f"{here.name} here"
    if (theirs / "result.json").is_file():
        return ""
    if ours.exists() and here.name != "absent":
        return f"unfinished there, and {here.name} here; finish it in one place"
    return _moving(theirs, beats)


def _moving(folder: Path, beats: Callable[[Path], bool] | None = None) -> str:
    """Whether somebody may be at an unfinished run, as far as its records and its heartbeat tell."""
    claim = claims.newest(folder)
    if claim is not None and claim.is_lost:
        return f"unfinished, and nobody knows who has it: damaged record: {', '.join(claim.damaged)}"
    if claim is not None and claim.end is None:
        return f"unfinished, and its job there has not said that it is over (claim of {claim.user})"
    if beats is not None and Records(folder).end_name is None and beats(folder):
        return "is running there"
    return ""


def _broken(folder: Path) -> str:
    """What a finished run lacks or has damaged, so that it could not be evaluated here; "" if nothing.

    That frozen weights are not there at all is not seen: torch alone could tell that they belong there.
    """
    found = result.read_or_none(folder)
    if found is None:
        return "its result.json is damaged"
    lacking = [e["rows"] for e in found["evals"].values() if not (folder / e["rows"]).is_file()]
    lacking += _lacking_weights(folder / "checkpoints")
    return f"incomplete: {', '.join(lacking)}" if lacking else ""


def _lacking_weights(folder: Path) -> list[str]:
    """What is missing or damaged in a finished run's folder of checkpoints."""
    files = checkpoints(folder)
    if not files:
        return ["no checkpoint"]
    found = [f"{file.path.name} is damaged" for file in files if not file.is_intact]
    frozen = sorted(folder.glob(frozen_name("*")))
    return found + [f"{path.name} is damaged" for path in frozen if not is_frozen_intact(path)]


def _id_of(config: Config) -> str | None:
    try:
        return identity.run_id(migrate(config))
    except (UserError, KeyError, TypeError, AttributeError):
        return None


def _settle(folder: Path, root: Path) -> None:
    """Put this machine's folders into the config, and say where it brings code of its own."""
    config = raw_config(folder)
    assert config, folder
    own = compose([])["runtime"] | {"root": str(root)}
    config["runtime"] |= {key: str(user_path(own[key]).absolute()) for key in PATHS}
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    if config.get("project") is not None:
        line = f"note: {folder.name} imports code of its own from {config['project']} when it is used"
        print(printable(line))
