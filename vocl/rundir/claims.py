"""Who works on a run: numbered claim files in `<run>/jobs/`, at most one made per number.

    NNNN.json        claim n: by which submission, of whom, where, since when
    NNNN-start.json  its job began (again), on which node, as which process
    NNNN-end.json    it is over, and how: outcome, cause (a code), reason or line (texts), code (of its
                     exit), ...; absent after a kill or a preemption, which the queue explains

The newest claim owns the run. A claim appears by link(2), which fails where the name exists, also on
network file systems: of any number of submitters one makes claim n + 1, and only one that has found
claim n over tries: where that cannot be known, nobody does. Nothing is ever taken back, so nothing
needs a lock.

A claim that cannot be read any more is neither free nor done: unless its end is on record it counts
as failed, which nothing takes up but a person (`vocl retry`), and as running while its run still
beats. So a job that nobody can name any more is not doubled, and the run is not lost: the next
claim has the next number, and a job of the lost one that begins later finds that it is not its own.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

from vocl.files import (
    NUMBER,
    TEMPORARY,
    Kinds,
    make_folder,
    record_or_none,
    refuse_planted,
    share,
    write_json,
)
from vocl.rundir import causes, processes
from vocl.rundir.causes import Cause
from vocl.rundir.run_dir import JOBS, RunDir

MADE_NAME = re.compile(r"\d{4}\.json")
WORD = re.compile(r"[\w-][\w.-]*", re.ASCII)  # a token, a run id, a snapshot: no path that leads elsewhere
TEXT, COUNT = (str, NoneType), (int, NoneType)
MADE_KINDS: Kinds = {
    "token": str,
    "cluster": str,
    "user": str,
    "host": str,
    "pid": int,
    "born": COUNT,
    "time": NUMBER,
}
START_KINDS: Kinds = {"time": NUMBER, "job": TEXT, "node": TEXT, "idle": COUNT, "pid": COUNT, "born": COUNT}
END_KINDS: Kinds = {
    "time": NUMBER,
    "outcome": str,
    "cause": TEXT,
    "code": COUNT,
    "reason": TEXT,
    "line": TEXT,
    "in_queue": COUNT,
}


@dataclass(frozen=True)
class Claim:
    """Claim `number` on a run: by a submission, `token`."""

    run: RunDir
    number: int
    token: str
    cluster: str  # kind
    user: str
    host: str
    pid: int
    born: int | None  # of process `pid`: `vocl.rundir.processes`
    time: float
    start: dict[str, Any] | None
    end: dict[str, Any] | None
    damaged: tuple[str, ...] = ()  # names of its records that cannot be read

    @property
    def path(self) -> Path:
        """The file that made it."""
        return self.run.jobs / f"{self.number:04d}.json"

    @property
    def start_path(self) -> Path:
        """The file that says that its job began."""
        return self.run.jobs / f"{self.number:04d}-start.json"

    @property
    def is_open(self) -> bool:
        """Whether nothing on record says that it is over."""
        return self.end is None

    @property
    def is_lost(self) -> bool:
        """Whether nothing tells any more whose it was."""
        return not self.token


def newest(run: RunDir) -> Claim | None:
    """The claim that owns the run, with its start and its end."""
    try:
        names = sorted(name for name in os.listdir(f"{run.path}/{JOBS}") if name[0] != ".")
    except FileNotFoundError:
        return None
    numbers = [name[:4] for name in names if MADE_NAME.fullmatch(name)]
    return _read(run, numbers[-1], names) if numbers else None


def history(run: RunDir) -> list[Claim]:
    """All claims on the run, oldest first."""
    folder = run.jobs
    names = sorted(path.name for path in folder.glob("[0-9]*.json")) if folder.is_dir() else []
    return [_read(run, name[:4], names) for name in names if MADE_NAME.fullmatch(name)]


def make(run: RunDir, after: Claim | None, token: str, cluster: str) -> Claim | None:
    """Claim the run after `after`, which is over; None when somebody else was faster.

    A damaged result is set aside: the job would take its presence for the run's end. Raises `OSError`.
    """
    number = after.number + 1 if after else 1
    path = run.jobs / f"{number:04d}.json"
    content: dict[str, Any] = {
        "token": token,
        "cluster": cluster,
        "user": getpass.getuser(),
        "host": os.uname().nodename,
        "pid": os.getpid(),
        "born": processes.start_ticks(os.getpid()),
        "time": time.time(),
    }
    for place in (run.path.parent, run.path):
        refuse_planted(place)
    make_folder(path.parent)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f"{TEMPORARY}{token}.")
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(content, file)
        share(Path(temporary))
        os.link(temporary, path, follow_symlinks=False)
    except FileExistsError:
        return None
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    finally:
        with suppress(OSError):
            os.unlink(temporary)
    run.set_aside_damaged_result()
    return Claim(run=run, number=number, start=None, end=None, **content)


def began(claim: Claim, pid: int | None = None, **facts: Any) -> None:
    """Record that the job of `claim` begins on this node, in process `pid` (by default in this one)."""
    pid = pid or os.getpid()
    event = {
        "time": time.time(),
        "node": os.uname().nodename,
        "pid": pid,
        "born": processes.start_ticks(pid),
        **facts,
    }
    write_json(claim.start_path, event)


def over(claim: Claim, outcome: str, cause: Cause | None = None, **facts: Any) -> None:
    """Record that `claim` is over: done, failed, stopped (resumable) or withdrawn (never ran), and why."""
    event = {"time": time.time(), "outcome": outcome, "cause": cause, **facts}
    write_json(claim.run.jobs / f"{claim.number:04d}-end.json", event)


def worker(claim: Claim) -> int | None:
    """The process that began to work for `claim`; None unless it is of this machine and alive."""
    start = claim.start or {}
    here = start.get("node") == os.uname().nodename
    return start["pid"] if here and processes.is_alive(start.get("pid"), start.get("born")) else None


def _read(run: RunDir, number: str, names: list[str]) -> Claim:
    damaged = []

    def part(suffix: str, kinds: Kinds) -> dict[str, Any] | None:
        name = f"{number}{suffix}.json"
        found = record_or_none(f"{run.path}/{JOBS}/{name}", kinds) if name in names else None
        if found is not None and kinds is MADE_KINDS and not WORD.fullmatch(found["token"]):
            found = None
        if found is None and name in names:
            damaged.append(f"{JOBS}/{name}")
        return found

    made, start, end = part("", MADE_KINDS), part("-start", START_KINDS), part("-end", END_KINDS)
    if start is None and f"{JOBS}/{number}-start.json" in damaged:  # it began, who knows when
        start = {"time": 0.0}
    if end is None and (made is None or f"{JOBS}/{number}-end.json" in damaged):
        reason = causes.sentence(Cause.DAMAGED, record=damaged[0] if made is None else damaged[-1])
        end = {"time": 0.0, "outcome": "failed", "cause": Cause.DAMAGED, "reason": reason}
    if made is None:
        made = dict(token="", cluster="", user="", host="", pid=0, born=None, time=0.0)
    if end is not None:
        end["cause"] = causes.of_end(end)
    known: dict[str, Any] = {key: made.get(key) for key in MADE_KINDS}
    return Claim(run=run, number=int(number), start=start, end=end, damaged=tuple(damaged), **known)
