"""Which runs deserve another job without anybody asking, and which do not: `vocl tend` acts on it."""

from __future__ import annotations

import getpass
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.node import advance
from launch.run_states.records import Records
from launch.run_states.states import DAMAGED, RunState
from launch.slurm import client, ledger, refusals
from launch.slurm.client import EndedJob
from launch.submission import resubmit
from vocl.rundir import claims
from vocl.rundir.checkpoint_files import newest_step
from vocl.rundir.claims import Claim
from vocl.stop import EXIT_TAKEN

OUT_OF_MEMORY = "out of memory"
PASSING = ("time limit", "node failure")  # reasons of failures that are not the run's own
KILLED = (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGHUP)  # by the machine or its administrator


@dataclass(frozen=True)
class Verdict:
    """`again`: queue it again, for `reason`, on the cluster changed by `cluster`; else give up."""

    again: bool
    reason: str
    cluster: dict[str, Any]


def judge(root: Path, run: Path, state: RunState, ended: EndedJob | None) -> Verdict | None:
    """What to do about the run in folder `run`, which no job has any more; None: it is not tend's.

    `ended` is accounting's word on the last job of a run whose process was killed.
    """
    claim = state.claim
    if claim is None or claim.cluster != "slurm" or state.name not in ("interrupted", "failed"):
        return None
    if claim.end is None or claim.end["outcome"] == "withdrawn":
        return None
    cause = _transient(state, claim, ended)
    if cause is None:
        return None
    submission = resubmit.submission_of(root, claim)
    if submission is None:
        name = ledger.damaged(root, claim.token)
        why = f"{DAMAGED}{name}" if name else "its submission is not in the ledger"
        return Verdict(False, f"{cause}; {why}", {})
    most, done = submission.cluster["max_resubmits"], _resubmits(root, run)
    if done >= most:
        return Verdict(
            False, f"{cause}; resubmitted {done} times, the most that cluster.max_resubmits allows", {}
        )
    if cause == OUT_OF_MEMORY:
        memory, factor = submission.cluster["mem_gb"], submission.cluster["mem_factor"]
        if memory is None or factor <= 1:
            key = "mem_gb is not set" if memory is None else "mem_factor is 1"
            return Verdict(False, f"{cause}; no more could be asked for, cluster.{key}", {})
        return Verdict(True, f"{cause}, now {memory * factor:g} GB", {"mem_gb": memory * factor})
    began = claim.end.get("code") != EXIT_TAKEN  # else another process had the run, until now perhaps
    if began and not advance.progressed(run, claim):
        return Verdict(False, f"{cause}; {_stuck(run)}", {})
    return Verdict(True, cause, {})


def _stuck(run: Path) -> str:
    """Why a run is taken for one that gets no further."""
    damaged = [name for name in Records(run).damaged if name.startswith("events/") and "-start" in name]
    if damaged:  # nobody knows where that attempt began
        return f"{DAMAGED}{damaged[-1]}"
    return f"its last attempt made no progress, at step {newest_step(run / 'checkpoints') or 0}"


def lost_in_the_dark(state: RunState) -> bool:
    """Whether a run's process was killed while its job looked on: only accounting knows if memory ran out."""
    end = state.claim.end if state.claim else None
    code = (end or {}).get("code")
    return state.name == "failed" and code == -signal.SIGKILL and "reason" not in (end or {})


def is_mine(claim: Claim | None) -> bool:
    """Whether this user submitted it: another's jobs go to another's account, and are theirs to tend."""
    return claim is None or claim.user == getpass.getuser()


def is_left_out(claim: Claim | None) -> bool:
    """Whether this user submitted it, and what kept it out of the queue may be over by now."""
    if claim is None or claim.end is None or claim.cluster != "slurm" or not is_mine(claim):
        return False
    return claim.end["outcome"] == "withdrawn" and refusals.is_passing(claim.end.get("line", ""))


def accounted(root: Path, states: Mapping[str, RunState]) -> dict[str, EndedJob]:
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


def _transient(state: RunState, claim: Claim, ended: EndedJob | None) -> str | None:
    """Why a run that is not done may well go on when it is tried again; None if it would not."""
    if state.reason == OUT_OF_MEMORY or (ended is not None and ended.state == "OUT_OF_MEMORY"):
        return OUT_OF_MEMORY
    end = claim.end or {}
    if state.name == "interrupted" or state.reason in PASSING:
        return state.reason or "interrupted"
    if end.get("code") in KILLED:
        return f"killed by signal {-end['code']}"
    return None


def _resubmits(root: Path, run: Path) -> int:
    """How often `vocl tend` has queued the run since a person last did; what never began does not count."""
    count = 0
    for claim in reversed(claims.history(run)):
        submission = resubmit.submission_of(root, claim)
        if submission is None or submission.arguments[:1] != ["tend"]:
            break
        count += claim.start is not None
    return count
