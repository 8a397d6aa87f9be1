"""Why a run is not further: a code that decisions compare, and its sentence, which is made here alone.

Records hold the code as `cause` beside the text that a person reads. Those of earlier versions hold the
text only: `of_end` finds their cause, once, where a record is read (`vocl.rundir.claims`).
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from enum import StrEnum
from typing import Any


class Cause(StrEnum):
    """Why a submission was refused, or how an attempt ended; its value stands in records."""

    # A submission was withdrawn: its job never began.
    LIMIT = "limit"  # of SLURM's, on the number of a user's jobs
    MAX_JOBS = "max_jobs"  # the same, of the config's
    UNREACHABLE = "unreachable"  # no controller answered
    BUSY = "busy"  # it answered, and could take no job, or would take this one by now
    REJECTED = "rejected"  # it will never take this one
    NOT_SENT = "not_sent"  # sbatch could not be asked, or gave no answer that is one
    NO_SOURCE = "source_not_done"
    BROKEN_OFF = "broken_off"
    SUBMITTER_DIED = "submitter_died"
    NOT_BEGUN = "not_begun"
    # An attempt ended.
    STOPPED = "stopped"
    PREEMPTED = "preempted"
    TIME_LIMIT = "time_limit"
    NODE_FAILURE = "node_failure"
    OUT_OF_MEMORY = "out_of_memory"
    KILLED = "killed"  # by a signal
    PROCESS_GONE = "process_gone"  # without a word
    JOB_GONE = "job_gone"
    JOB_LOST = "job_lost"  # in a way for which SLURM has another word
    JOB_KILLED = "job_killed"  # its script or srun
    JOB_FAILED = "job_failed"
    FAILED = "failed"  # the run itself
    CANCELLED = "cancelled"
    CANCELLED_PENDING = "cancelled_pending"
    MAX_REQUEUES = "max_requeues"
    # Nobody tries it again.
    MAX_RESUBMITS = "max_resubmits"
    NO_PROGRESS = "no_progress"
    IDLE = "idle"  # the same, in jobs that SLURM requeued
    NO_MORE_MEMORY = "no_more_memory"
    DAMAGED = "damaged"  # a record that would be needed
    NO_ENTRY = "no_entry"  # of its submission in the ledger

    @property
    def is_limit(self) -> bool:
        """Whether there are too many jobs: as others leave there is room."""
        return self in (Cause.LIMIT, Cause.MAX_JOBS)

    @property
    def gravity(self) -> int:
        """Of several refusals the one with the most is shown."""
        return -REFUSALS.index(self)

    @property
    def passes(self) -> bool:
        """Whether what kept a submission out may be over by itself; a request that is wrong stays wrong."""
        return self in REFUSALS and self is not Cause.REJECTED


REFUSALS = (  # the gravest first
    *(Cause.REJECTED, Cause.NOT_SENT, Cause.UNREACHABLE, Cause.BUSY, Cause.LIMIT, Cause.MAX_JOBS),
    *(Cause.NO_SOURCE, Cause.BROKEN_OFF, Cause.SUBMITTER_DIED, Cause.NOT_BEGUN),
)
SENTENCES = {
    Cause.LIMIT: "{said}",
    Cause.MAX_JOBS: "cluster.max_jobs is reached",
    Cause.UNREACHABLE: "{said}",
    Cause.BUSY: "{said}",
    Cause.REJECTED: "{said}",
    Cause.NOT_SENT: "{said}",
    Cause.NO_SOURCE: "starts from {source}, which is not done",
    Cause.BROKEN_OFF: "its submission was broken off",
    Cause.SUBMITTER_DIED: "its submitter died",
    Cause.NOT_BEGUN: "stopped before it began",
    Cause.STOPPED: "stopped",
    Cause.PREEMPTED: "preempted",
    Cause.TIME_LIMIT: "time limit",
    Cause.NODE_FAILURE: "node failure",
    Cause.OUT_OF_MEMORY: "out of memory",
    Cause.KILLED: "killed by signal {signal}",
    Cause.PROCESS_GONE: "killed",
    Cause.JOB_GONE: "its job is gone",
    Cause.JOB_LOST: "{said}",
    Cause.JOB_KILLED: "job failed, exit code {code}",
    Cause.JOB_FAILED: "job failed, exit code {code}",
    Cause.FAILED: "{said}",
    Cause.CANCELLED: "cancelled",
    Cause.CANCELLED_PENDING: "cancelled while pending",
    Cause.MAX_REQUEUES: "requeued {count} times, the most that cluster.max_requeues allows",
    Cause.MAX_RESUBMITS: "resubmitted {count} times, the most that cluster.max_resubmits allows",
    Cause.NO_PROGRESS: "its last attempt made no progress, at step {step}",
    Cause.IDLE: "no progress in {count} jobs in a row, each up to its time limit, at step {step}: "
    "cluster.time_min is too short for it, or cluster.signal_s too long",
    Cause.NO_MORE_MEMORY: "no more could be asked for, cluster.{why}",
    Cause.DAMAGED: "damaged record: {record}",
    Cause.NO_ENTRY: "its submission is not in the ledger",
}
# SLURM's own codes, as sbatch prints them on a line of their own, for limits on the number of jobs.
LIMITS = (
    *("AssocMaxSubmitJobLimit", "AssocGrpSubmitJobsLimit", "MaxSubmitJobsPerAccount"),
    *("QOSMaxSubmitJobPerUserLimit", "QOSMaxSubmitJobPerAccountLimit", "QOSGrpSubmitJobsLimit"),
)
AWAY = (  # how sbatch spells the numbers of errors in which the controller has not answered
    *(f"Unable to contact slurm controller ({what} failure)" for what in ("connect", "send", "receive")),
    "Unable to contact slurm controller (shutdown failure)",
    "Socket timed out on send/recv operation",
    *(f"Communication {what} failure" for what in ("connection", "shutdown")),
    *(f"Message {what} failure" for what in ("send", "receive")),
    "Zero Bytes were transmitted or received",
    "Slurm backup controller in standby mode",
    "Unable to connect to database",
    *(os.strerror(number) for number in (errno.ECONNREFUSED, errno.ECONNRESET, errno.ETIMEDOUT)),
    *(os.strerror(number) for number in (errno.EHOSTUNREACH, errno.ENETUNREACH)),
)
FULL = (  # and those in which it has no room for any job, whoever's
    os.strerror(errno.EAGAIN),
    "Slurm temporarily unable to accept job, sleeping and retrying",
    "Slurm job queue full, sleeping and retrying",
    "Job creation temporarily disabled, retrying",
)
BEFORE = re.compile(r"^(?:sbatch: error: )?(?:(?:Batch job submission failed|allocation failure): )?")
OLD = (  # what earlier versions wrote, the first that matches
    (re.compile(r"^cluster\.max_jobs is reached"), Cause.MAX_JOBS),
    (re.compile(r"\(job submit limit, "), Cause.LIMIT),  # the first line of what SLURM says of one
    (re.compile(r"^starts from \S+, which is not done"), Cause.NO_SOURCE),
    (re.compile(r"^requeued \d+ times, the most"), Cause.MAX_REQUEUES),
    (re.compile(r"^no progress in "), Cause.IDLE),
    (re.compile(r"; its last attempt made no progress"), Cause.NO_PROGRESS),
    (re.compile(r"; resubmitted \d+ times, the most"), Cause.MAX_RESUBMITS),
    (re.compile(r"; no more could be asked for"), Cause.NO_MORE_MEMORY),
    (re.compile(r"damaged record: "), Cause.DAMAGED),
    (re.compile(r"; its submission is not in the ledger"), Cause.NO_ENTRY),
    (re.compile(r"^job failed, exit code "), Cause.JOB_FAILED),
)


def sentence(cause: Cause, **facts: Any) -> str:
    """The sentence about a cause, with its `facts`: what SLURM said, the number of a signal, ..."""
    return SENTENCES[cause].format(**facts)


def of_exit(code: int | None) -> Cause:
    """The cause of a failure by exit code; negative: by a signal."""
    return Cause.KILLED if code is not None and code < 0 else Cause.FAILED


def of_refusal(said: str) -> Cause:
    """What sbatch's words alone tell of a refusal.

    Only a line that is, as a whole, a known code or a known error counts: no name that the user chose can
    be one. All else is a refusal for good: a run that is left out is seen, one that is sent for ever is not.
    """
    errors = [BEFORE.sub("", line.strip()).rstrip(".") for line in said.splitlines()]
    if any(error in LIMITS for error in errors):
        return Cause.LIMIT
    if any(error in AWAY for error in errors):
        return Cause.UNREACHABLE
    return Cause.BUSY if any(error in FULL for error in errors) else Cause.REJECTED


def of_end(end: Mapping[str, Any]) -> Cause | None:
    """The cause in the record of an end, or what the text of an earlier version's says; None: it is done."""
    with suppress(ValueError, KeyError):
        return Cause(end["cause"])
    outcome, reason, line = end["outcome"], end.get("reason") or "", end.get("line") or ""
    if outcome == "done":
        return None
    if outcome == "failed" and not reason:
        return of_exit(end.get("code"))
    text = reason or line
    same = [cause for cause, sentence in SENTENCES.items() if sentence == text]
    found = same or [cause for pattern, cause in OLD if pattern.search(text)]
    if outcome != "withdrawn":
        return found[0] if found else Cause.FAILED if outcome == "failed" else Cause.STOPPED
    if found and found[0] in REFUSALS:
        return found[0]
    return of_refusal(text) if text.startswith("sbatch") else Cause.NOT_SENT
