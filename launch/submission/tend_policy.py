"""Which runs deserve another job without anybody asking, and which do not: `vocl tend` acts on it."""

from __future__ import annotations

import getpass
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from launch.node import headway
from launch.run_states.states import RunState
from launch.slurm import client, ledger
from launch.slurm.client import EndedJob
from launch.slurm.ledger import By
from launch.submission import resubmit
from vocl.config.cluster import SlurmCluster
from vocl.rundir import causes, claims
from vocl.rundir.causes import Cause
from vocl.rundir.claims import Claim
from vocl.rundir.records import Records
from vocl.rundir.results_root import ResultsRoot
from vocl.rundir.run_dir import EVENTS, RunDir
from vocl.stop import EXIT_TAKEN

NOT_ITS_OWN = (Cause.TIME_LIMIT, Cause.NODE_FAILURE)  # failures that are not the run's
KILLED = (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGHUP)  # by the machine or its administrator


@dataclass(frozen=True)
class Verdict:
    """`again`: queue it again, on the cluster changed by `cluster`; else give up. `reason` tells why."""

    again: bool
    cause: Cause
    reason: str
    cluster: dict[str, Any] = field(default_factory=dict)


def judge(root: ResultsRoot, run: RunDir, state: RunState, ended: EndedJob | None) -> Verdict | None:
    """What to do about the run in folder `run`, which no job has any more; None: it is not tend's.

    `ended` is accounting's word on the last job of a run whose process was killed.
    """
    claim = state.claim
    if claim is None or claim.cluster != "slurm" or state.name not in ("interrupted", "failed"):
        return None
    if claim.end is None or claim.end["outcome"] == "withdrawn" or run.is_paused():
        return None
    cause = _transient(state, claim, ended)
    if cause is None:
        return None
    reason = _told(cause, state, claim)
    submission = resubmit.submission_of(root, claim)
    if submission is None:
        name = ledger.damaged(root, claim.token)
        return _give_up(reason, Cause.DAMAGED, record=name) if name else _give_up(reason, Cause.NO_ENTRY)
    done = _resubmits(root, run)
    if done >= submission.on_slurm.max_resubmits:
        return _give_up(reason, Cause.MAX_RESUBMITS, count=done)
    if cause is Cause.OUT_OF_MEMORY:
        return _with_more_memory(reason, submission.on_slurm)
    began = claim.end.get("code") != EXIT_TAKEN  # else another process had the run, until now perhaps
    if began and not headway.progressed(run, claim):
        return _stuck(reason, run)
    return Verdict(True, cause, reason)


def _give_up(reason: str, cause: Cause, **facts: Any) -> Verdict:
    return Verdict(False, cause, f"{reason}; {causes.sentence(cause, **facts)}")


def _with_more_memory(reason: str, cluster: SlurmCluster) -> Verdict:
    memory, factor = cluster.mem_gb, cluster.mem_factor
    if memory is None or factor <= 1:
        why = "mem_gb is not set" if memory is None else "mem_factor is 1"
        return _give_up(reason, Cause.NO_MORE_MEMORY, why=why)
    more = memory * factor
    return Verdict(True, Cause.OUT_OF_MEMORY, f"{reason}, now {more:g} GB", {"mem_gb": more})


def _stuck(reason: str, run: RunDir) -> Verdict:
    """To give up a run that is taken for one that gets no further."""
    damaged = [name for name in Records(run).damaged if name.startswith(f"{EVENTS}/") and "-start" in name]
    if damaged:  # nobody knows where that attempt began
        return _give_up(reason, Cause.DAMAGED, record=damaged[-1])
    return _give_up(reason, Cause.NO_PROGRESS, step=run.newest_step() or 0)


def was_sigkilled(state: RunState) -> bool:
    """Whether a run's process was killed while its job looked on: only accounting knows if memory ran out."""
    end = (state.claim.end if state.claim else None) or {}
    killed = end.get("cause") is Cause.KILLED and end.get("code") == -signal.SIGKILL
    return state.name == "failed" and killed


def is_mine(claim: Claim | None) -> bool:
    """Whether this user submitted it: another's jobs go to another's account, and are theirs to tend."""
    return claim is None or claim.user == getpass.getuser()


def is_left_out(claim: Claim | None) -> bool:
    """Whether this user submitted it, and what kept it out of the queue may be over by now."""
    if claim is None or claim.end is None or claim.cluster != "slurm" or not is_mine(claim):
        return False
    cause = claim.end["cause"]
    return claim.end["outcome"] == "withdrawn" and cause is not None and cause.passes


def accounted(root: ResultsRoot, states: Mapping[str, RunState]) -> dict[str, EndedJob]:
    """What accounting says of the jobs in which runs last ran, by run id; one question."""
    places, jobs, since = {}, set(), time.time()
    for run, state in states.items():
        submission = resubmit.submission_of(root, state.claim)
        if submission is not None and submission.job is not None:
            places[run] = (submission.name, submission.index(run))
            jobs.add(submission.job)
            since = min(since, submission.time)
    found = client.accounting(jobs, since) or {}
    return {run: found[place] for run, place in places.items() if place in found}


def _transient(state: RunState, claim: Claim, ended: EndedJob | None) -> Cause | None:
    """Why a run that is not done may well go on when it is tried again; None if it would not."""
    if state.cause is Cause.OUT_OF_MEMORY or (ended is not None and ended.state == "OUT_OF_MEMORY"):
        return Cause.OUT_OF_MEMORY
    if state.name == "interrupted" or state.cause in NOT_ITS_OWN:
        return state.cause or Cause.STOPPED
    end = claim.end or {}
    return Cause.KILLED if end.get("cause") is Cause.KILLED and end.get("code") in KILLED else None


def _told(cause: Cause, state: RunState, claim: Claim) -> str:
    """The sentence about what `_transient` found."""
    if cause is Cause.KILLED:
        return causes.sentence(cause, signal=-(claim.end or {})["code"])
    if cause is Cause.OUT_OF_MEMORY:
        return causes.sentence(cause)
    return state.reason or "interrupted"


def _resubmits(root: ResultsRoot, run: RunDir) -> int:
    """How often `vocl tend` has queued the run since a person last did; what never began does not count."""
    count = 0
    for claim in reversed(claims.history(run)):
        submission = resubmit.submission_of(root, claim)
        if submission is None or submission.by is not By.TEND:
            break
        count += claim.start is not None
    return count
