"""`vocl cancel`: end jobs by run. Only jobs whose runs are all named, or over, are ended."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from launch.run_states.states import GIVE_UP, LIVE, UNKNOWN, RunState, look
from launch.selection.selector import resolve
from launch.selection.submitted import PlacedRun
from launch.slurm import client
from launch.slurm.client import SlurmError
from launch.submission import resubmit
from launch.submission.enqueue import recover
from vocl.command_line import defaults
from vocl.command_line.verb import ABLATIONS, RUNS, SUBMITTED, Line, option, verb, words
from vocl.errors import printable
from vocl.rundir import causes, claims, processes
from vocl.rundir.causes import Cause
from vocl.rundir.claims import Claim
from vocl.rundir.lock import CLAIM
from vocl.rundir.results_root import ResultsRoot
from vocl.rundir.run_dir import RunDir

POOL_WAIT_S = 60.0  # for a child of a pool to save and leave


@verb("cancel")
@words("SELECTOR | RUN...", SUBMITTED, takes=defaults.NAMES, offers=(ABLATIONS, RUNS))
@option("--gone", is_flag=True, help="A person's word that no job has those runs whose state is unknown.")
def main(line: Line, gone: bool) -> int:
    """End the jobs of runs; a person alone takes a cancelled run up again, by `vocl retry` or by training it.

    With --gone no job is ended: runs whose state is unknown are given up. Returns 0, or 1 when SLURM does
    not answer or a run could not be cancelled.
    """
    target = resolve(line.words)
    with suppress(SlurmError):
        recover(target.root, target.runs)
    states, trouble = look(target.root, target.runs)
    entries = {entry.id: entry for entry in target.entries}
    unknown = {run: entry for run, entry in entries.items() if states[run].name == UNKNOWN}
    if gone:
        return _give_up(unknown, states)
    for run, entry in unknown.items():
        reason = f"{states[run].reason}; {GIVE_UP.format(run=run)}"
        print(printable(f"not cancelled {entry.described}: {reason}"), file=sys.stderr)
    if trouble:
        print(f"not cancelled: {trouble}", file=sys.stderr)
        return 1
    live = {run: entry for run, entry in entries.items() if states[run].name in (*LIVE, "blocked")}
    on_slurm = {run: states[run] for run in live if _is_job(states[run])}
    sharing = _sharing(target.root, on_slurm, set(target.runs))
    jobs = {run: state.job for run, state in on_slurm.items() if run not in sharing}
    try:
        client.cancel(sorted(set(jobs.values())))
    except SlurmError as error:
        print(f"not cancelled: {error}", file=sys.stderr)
        return 1
    for run, job in jobs.items():
        _end(states[run].claim)
        print(f"cancelled {live[run].described}: job {job}")
    for run, reason in sharing.items():
        print(printable(f"not cancelled {live[run].described}: {reason}"), file=sys.stderr)
    here = {run: entry for run, entry in live.items() if run not in on_slurm}
    left = sum(not _stop_here(target.root.run(run), entry, states[run]) for run, entry in here.items())
    left += len(sharing) + len(unknown)
    print(f"{len(target.runs)} runs: {len(live) + len(unknown) - left} cancelled, {left} not")
    return 1 if left else 0


def _give_up(unknown: Mapping[str, PlacedRun], states: Mapping[str, RunState]) -> int:
    """End the claims of runs of which a person says that no job has them; returns 0."""
    for run, entry in unknown.items():
        _end(states[run].claim)
        print(printable(f"given up {entry.described}: {states[run].reason}"))
    print(f"{len(states)} runs: {len(unknown)} given up")
    return 0


def _is_job(state: RunState) -> bool:
    return state.claim is not None and state.claim.cluster == "slurm" and state.in_queue


def _sharing(root: ResultsRoot, states: dict[str, RunState], chosen: set[str]) -> dict[str, str]:
    """Runs whose job others share that are not among `chosen`, and the reason to tell."""
    sharing = {}
    for run, state in states.items():
        submission = resubmit.submission_of(root, state.claim)
        if submission is None:
            continue
        same_job = set(submission.elements[submission.index(run)]) - chosen
        others = [other for other in sorted(same_job) if _works_on(root.run(other), submission.token)]
        if others:
            sharing[run] = f"shares job {state.job} with {', '.join(others)}; cancel them together"
    return sharing


def _works_on(run: RunDir, token: str) -> bool:
    claim = claims.newest(run)
    return claim is not None and claim.token == token and claim.end is None


def _end(claim: Claim | None) -> None:
    """Record that a person ended the claim, unless it has ended by itself."""
    now = claims.newest(claim.run) if claim is not None else None
    if now is not None and claim is not None and now.number == claim.number and now.end is None:
        claims.over(now, "failed", Cause.CANCELLED, reason=causes.sentence(Cause.CANCELLED))


def _stop_here(run: RunDir, entry: PlacedRun, state: RunState) -> bool:
    """Have a process of this machine save and leave; whether it has."""
    claim, child, trouble = state.claim, None, ""
    if claim is None:
        trouble = "is being trained by no submission; stop its process"
    elif claim.cluster == "slurm":
        trouble = "is being submitted; try again"
        if claim.start is not None:
            trouble = f"runs in job {state.job} on {state.node}, which the queue here does not show"
    elif claim.host != os.uname().nodename:
        trouble = f"runs on {claim.host}, cancel it there"
    elif (child := claims.worker(claim)) is None:
        trouble = _out_of_reach(claim, state)
    if claim is None or child is None:
        print(printable(f"not cancelled {entry.described}: {trouble}"), file=sys.stderr)
        return False
    behind = "" if processes.is_alive(claim.pid, claim.born) else ", left behind by its pool"
    if trouble := _send_away(child, claim):
        print(printable(f"not cancelled {entry.described}: {trouble}"), file=sys.stderr)
        return False
    if not run.is_done():
        claims.over(claim, "failed", Cause.CANCELLED, reason=causes.sentence(Cause.CANCELLED))
    print(f"cancelled {entry.described}: process {child}{behind}")
    return True


def _out_of_reach(claim: Claim, state: RunState) -> str:
    """Why a run that somebody of this machine has cannot be ended alone, and what can be done."""
    beat = state.records.beat if state.records else None
    if beat is None or processes.is_alive(claim.pid, claim.born):
        return f"waits in the pool of process {claim.pid}; end that by kill {claim.pid}"
    # of a pool that is dead, and did not get to record it
    return f"is trained by process {beat.pid} on {beat.host}; end that by kill {beat.pid}"


def _send_away(child: int, claim: Claim) -> str:
    """Have process `child`, which works for `claim`, save and leave; what kept it from it, or ""."""
    try:
        os.kill(child, 0)
        if _works_for(child, claim):
            os.kill(child, signal.SIGTERM)
        elif claims.worker(claim) is not None:  # else it has just left
            return f"process {child} shows no sign that it works on it, whatever the records say"
    except ProcessLookupError:
        pass  # it has left
    except PermissionError:
        return f"process {child} is another user's ({claim.user})"
    until = time.monotonic() + POOL_WAIT_S
    while time.monotonic() < until:
        now = claims.newest(claim.run)
        noted = now is None or now.number != claim.number or now.end is not None
        if noted or (claims.worker(claim) is None and not processes.is_alive(claim.pid, claim.born)):
            return ""
        time.sleep(0.1)
    return f"process {child} has not left within {POOL_WAIT_S:.0f} s"


def _works_for(process: int, claim: Claim) -> bool:
    """Whether a process of this user was started for `claim`, or has its run's lock open. It is looked at
    itself: whoever may write to a results folder may write any number into a record."""
    place, config = Path(f"/proc/{process}"), os.fsencode(os.path.realpath(claim.run.config_path))
    try:
        words, variables = ((place / name).read_bytes().split(b"\0") for name in ("cmdline", "environ"))
        if f"{CLAIM}={claim.token}".encode() in variables and config in map(os.path.realpath, words):
            return True
        lock = claim.run.lock_path.lstat()
        opened = list((place / "fd").iterdir())
    except OSError:
        return False
    return lock.st_nlink == 1 and any(_is_same(lock, file) for file in opened)


def _is_same(status: os.stat_result, file: Path) -> bool:
    try:
        return os.path.samestat(status, file.stat())
    except OSError:  # it has been closed
        return False
