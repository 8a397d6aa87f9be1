"""What has become of runs: from their records, one squeue and at most one sacct. Changes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from launch.run_states import ends
from launch.run_states.recent import RecentReports
from launch.slurm.client import QueuedJob
from launch.slurm.job_states import Asker, SchedulerAnswer, ask
from vocl.errors import UserError, printable
from vocl.rundir import causes, claims, file_times, processes
from vocl.rundir.causes import Cause
from vocl.rundir.claims import Claim
from vocl.rundir.records import Records
from vocl.rundir.result import DAMAGED as DAMAGED_RESULT
from vocl.rundir.results_root import ResultsRoot, root_of
from vocl.rundir.run_dir import RunDir

SUBMITTING_S = 120.0  # a submitter on another machine may take between claim and answer
UNKNOWN = "unknown"  # a job may have it, and nobody here can tell: nothing takes it, nothing ends it
STATES = ("absent", "waiting", "blocked", "queued", "running", UNKNOWN, "interrupted", "failed", "done")
LIVE = ("waiting", "queued", "running")
SHOWN = 3  # run ids of a line about many
SIGKILL = -9
GIVE_UP = "if you know that its job is gone: vocl cancel {run} --gone"


@dataclass(frozen=True)
class RunState:
    """`name` is one of `STATES`; `reason` says why it is not further, `cause` is its code where it ended."""

    name: str
    reason: str = ""
    step: int | None = None
    steps: int | None = None
    rate: float | None = None  # steps per second
    job: str = ""
    in_queue: bool = False  # `job` is a job of the cluster that was asked: others' may have the same id
    node: str = ""
    claim: Claim | None = None
    cause: Cause | None = None
    records: Records | None = field(default=None, repr=False, compare=False)

    @property
    def left_s(self) -> float | None:
        """Seconds that the training needs yet at its present rate."""
        if self.rate and self.steps is not None and self.step is not None:
            return (self.steps - self.step) / self.rate
        return None

    @property
    def probe(self) -> str:
        """What the newest probe of a run that is not done says in a word, and after which step."""
        beat = self.records.beat if self.records and self.name != "done" else None
        newest = beat.probe if beat else None
        if newest is None:
            return ""
        score = "undefined" if newest.score is None else f"{newest.score:.3f}"
        return f"{newest.metric.rpartition('/')[2]} {score} at {newest.step}"

    @property
    def full_reason(self) -> str:
        """`reason`, after the records that could not be read."""
        damaged = self.records.damaged if self.records else []
        names = ", ".join(name for name in damaged if name not in self.reason)
        damage = causes.sentence(Cause.DAMAGED, record=names) if names else ""
        return "; ".join(part for part in (damage, self.reason) if part)


def look(root: ResultsRoot, runs: Iterable[str], asked: Asker = ask) -> tuple[dict[str, RunState], str]:
    """The state of each run id under `root`, and what kept SLURM from answering ("" if nothing).

    `asked` gets the claims that their runs' records leave unclear.
    """
    found = {run: Records(root.run(run)) for run in dict.fromkeys(runs)}
    open_ones = {run: each for run, each in found.items() if not each.is_done}
    unclear = [each.claim for each in open_ones.values() if each.claim is not None and _is_unclear(each)]
    view = asked(root, unclear)
    gone = {claim.run.id for claim in unclear if claim.is_open and not view.is_live(claim)}
    for run in gone:  # it may have ended after its records were read and before the queue was
        found[run] = Records(root.run(run))
    return {run: state_of(records, view) for run, records in found.items()}, view.trouble


def refuse_taken(run: RunDir) -> None:
    """Raise `UserError` when somebody works on `run` or is about to."""
    states, _ = look(root_of(run), [run.id])
    state = states[run.id]
    if state.name == UNKNOWN:
        raise UserError(
            f"{run}: a job may have this run, nobody here can tell: {state.reason}; "
            f"{GIVE_UP.format(run=run.id)}"
        )
    if state.name in LIVE and state.claim is not None:
        if state.claim.is_lost:
            raise UserError(f"{run}: this run is {state.name} already, and its claim is damaged")
        process = claims.worker(state.claim) or state.claim.pid
        by = f"job {state.job}" if state.job else f"process {process} on {state.claim.host}"
        doing = "being worked on" if state.name == "running" else state.name
        raise UserError(
            f"{run}: this run is {doing} already, by {by} of {state.claim.user}; "
            f"to take it over: vocl cancel {run.id}"
        )


def left_alone(states: Mapping[str, RunState]) -> list[str]:
    """A line per reason for which nobody can tell what has become of runs."""
    reasons: dict[str, list[str]] = {}
    for run, state in states.items():
        if state.name == UNKNOWN:
            reasons.setdefault(state.reason, []).append(run)
    lines = (f"left alone, a job may have {_some(runs)}: {reason}" for reason, runs in reasons.items())
    return [printable(line) for line in lines]


def _some(runs: list[str]) -> str:
    more = f" and {len(runs) - SHOWN} more" if len(runs) > SHOWN else ""
    return ", ".join(runs[:SHOWN]) + more


def with_sources(states: dict[str, RunState], sources: dict[str, str]) -> dict[str, RunState]:
    """`states` where runs wait for, or are blocked by, the runs that they start from (`sources`)."""
    found = dict(states)
    for run, source in _sources_first(sources):
        state, other = found[run], found.get(source)
        if other is None or other.name == "done" or state.name not in ("absent", "queued", "waiting"):
            continue
        stuck = other.name in ("failed", "blocked")
        reason = f"starts from {source}, which {'is' if other.name != 'failed' else 'has'} {other.name}"
        found[run] = replace(state, name="blocked" if stuck else "waiting", reason=reason)
    return found


def _sources_first(sources: dict[str, str]) -> list[tuple[str, str]]:
    """The items, each after that of its own source."""

    def depth(run: str) -> int:
        return 1 + depth(sources[run]) if run in sources else 0

    return sorted(sources.items(), key=lambda item: depth(item[0]))


def state_of(records: Records, view: SchedulerAnswer) -> RunState:
    """The state of a run. One that left a damaged result, and that no job has, has failed."""
    found = replace(_state_of(records, view), records=records)
    if records.has_damaged_result and found.name in ("absent", "interrupted", "failed"):
        found = replace(found, name="failed", reason=DAMAGED_RESULT, cause=Cause.DAMAGED)
    return found


def _state_of(records: Records, view: SchedulerAnswer) -> RunState:
    if records.is_done:  # also where an evaluation failed: that needs no training, `vocl eval` tries it again
        failed = records.result.failed if records.result else {}
        reason = "; ".join(f"eval {name} failed: {why}" for name, why in failed.items())
        steps = records.result.steps if records.result else None
        if reason or steps is None:
            return RunState("done", reason, **_facts(records))
        return RunState("done", step=steps, steps=steps)  # who had it, and where, nobody needs any more
    if records.trouble:
        return RunState(UNKNOWN, records.trouble)
    claim, beats = records.claim, partial(records.run.is_alive, records.beat)
    if claim is None or not claim.is_open:
        ended = _from_records(records, claim, view)
        unowned = ended.name == "interrupted" or (claim is not None and claim.is_lost)
        here = unowned and not records.ended and beats()
        return _running(records, None) if here else ended
    if claim.cluster != "slurm":
        if _is_alive(claim) or claims.worker(claim) or beats():  # a killed pool's process trains on
            return _running(records, None) if claim.start else RunState("queued", claim=claim)
        return _from_records(records, None, view)
    return _of_job(records, claim, view, beats)


def _of_job(records: Records, claim: Claim, view: SchedulerAnswer, beats: Callable[[], bool]) -> RunState:
    """The state of a run whose claim is a job of SLURM that has not said how it ended."""
    submission = view.submissions.get(claim.token)
    queued = view.queued.get(view.element(claim))
    if queued is not None and queued.is_running:
        return _running(records, queued)
    if queued is not None and queued.is_live:
        name = "waiting" if queued.reason.startswith("Dependency") else "queued"
        if queued.reason == "DependencyNeverSatisfied":
            name = "blocked"
        reason = "" if queued.reason == "None" else queued.reason
        return RunState(name, reason, in_queue=True, **_facts(records) | {"job": queued.id, "node": ""})
    if claim.start and records.ended is None and beats():
        return _running(records, None)
    if view.trouble:
        return _unanswered(records, claim, view)
    if (submission is None or submission.job is None) and is_submitting(claim):
        return RunState("queued", "being submitted", claim=claim)
    if doubt := view.doubt(claim):
        job = f"{submission.job}_{view.element(claim)[1]}" if submission and submission.job else ""
        return RunState(UNKNOWN, doubt, **_facts(records) | {"job": job})
    if submission is None or submission.job is None:
        if claim.token in view.damaged:  # the queue may hold its job, nobody can tell: it is not free
            return _ended("failed", Cause.DAMAGED, records, record=view.damaged[claim.token])
        return _from_records(records, None, view)
    return _of_ended_job(records, claim, view, submission.job)


def _unanswered(records: Records, claim: Claim, view: SchedulerAnswer) -> RunState:
    """The state of a run whose job the scheduler says nothing about."""
    if records.ended is not None:
        found = _from_records(records, None, view)  # it may be queued again
        return replace(found, name=UNKNOWN, reason=f"{found.reason}; SLURM did not answer")
    name = "running" if claim.start else "queued"
    return replace(_running(records, None), name=name, reason="SLURM did not answer")


def _of_ended_job(records: Records, claim: Claim, view: SchedulerAnswer, job: str) -> RunState:
    """The state of a run whose job is over, as accounting and its records say."""
    ended, own = view.accounted(claim), records.ended if records.ended_under(claim) else None
    name, cause = ends.of_job(ended, claim.start is not None, own["outcome"] if own else ends.NOTHING)
    said = _reason(own, {}) if cause is Cause.FAILED else ended.state.lower() if ended else ""
    found = _ended(name, cause, records, said=said, code=ended.exit_code if ended else "")
    node = ended.node if ended else found.node
    return replace(found, job=f"{job}_{view.element(claim)[1]}", node=node)


def _ended(state: str, cause: Cause, records: Records, **facts: Any) -> RunState:
    """The state of a run that ended for `cause`; `facts` fill its sentence."""
    return RunState(state, causes.sentence(cause, **facts), cause=cause, **_facts(records))


def _from_records(records: Records, claim: Claim | None, view: SchedulerAnswer) -> RunState:
    """The state of a run that nobody works on."""
    last, event = claim.end if claim else None, records.ended
    facts = _facts(records) | {"cause": last["cause"] if last else None}
    if last is not None and last["outcome"] == "failed":
        assert claim is not None
        ended = view.accounted(claim) if _may_lack_memory(claim) else None
        if ended is not None and ended.state == "OUT_OF_MEMORY":
            return _ended("failed", Cause.OUT_OF_MEMORY, records)
        return RunState("failed", last.get("reason") or _reason(event, last), **facts)
    if last is None and event is not None and event["outcome"] == "failed":
        return _ended("failed", Cause.FAILED, records, said=_reason(event, {}))
    if last is not None and last["outcome"] == "stopped":
        return RunState("interrupted", last.get("line", "stopped"), **facts)
    if records.has_begun:
        if event is None:
            return _ended("interrupted", Cause.PROCESS_GONE, records)
        cause = Cause.FAILED if event["outcome"] == "failed" else Cause.STOPPED
        return RunState("interrupted", event["outcome"], **facts | {"cause": cause})
    return RunState("absent", last.get("line", "") if last else "", claim=records.claim, cause=facts["cause"])


def _reason(event: dict[str, Any] | None, end: dict[str, Any]) -> str:
    code = end.get("code")
    if event is not None and event["outcome"] == "failed" and (code in (None, 1, 2)):
        return f"{event.get('kind', 'failed')}: {' '.join(str(event.get('message', '')).split())}"
    if code is not None and code < 0:
        return causes.sentence(Cause.KILLED, signal=-code)
    return end.get("line") or f"exit code {code}"


def _running(records: Records, job: QueuedJob | None) -> RunState:
    facts = _facts(records)
    if job is not None:
        facts |= {"job": job.id, "in_queue": True, "node": job.node or facts["node"]}
    if records.beat is None or records.beat_is_older:
        return RunState("running", "starting", **facts)  # what there is to read is of an earlier attempt
    reports = RecentReports(records).last("steps_per_s")
    return RunState("running", rate=reports[-1].get("steps_per_s") if reports else None, **facts)


def _facts(records: Records) -> dict[str, Any]:
    """How far a run came, and where, whatever its state."""
    claim = records.claim
    start = (claim.start if claim else None) or {}
    beat = records.beat
    steps = [step for step in (beat.step if beat else None, records.saved_step) if step is not None]
    return {
        "step": max(steps, default=None),
        "steps": beat.steps if beat else None,
        "job": start.get("job", ""),
        "node": start.get("node") or (beat.host if beat else ""),
        "claim": claim,
    }


def _may_lack_memory(claim: Claim) -> bool:
    """Whether a run ended by the signal with which the kernel takes memory back."""
    end = claim.end or {}
    return end.get("cause") is Cause.KILLED and end.get("code") == SIGKILL


def _is_unclear(records: Records) -> bool:
    """Whether the scheduler has to say what became of a run without result."""
    claim = records.claim
    assert claim is not None
    return claim.cluster == "slurm" and (claim.is_open or _may_lack_memory(claim))


def is_submitting(claim: Claim) -> bool:
    """Whether the submitter that made a claim may still be at it."""
    known = _is_alive(claim)
    return known if known is not None else file_times.is_recent(claim.path, SUBMITTING_S)


def _is_alive(claim: Claim) -> bool | None:
    """Whether the process that made a claim is alive; None where another machine would have to say."""
    if claim.host != os.uname().nodename or claim.born is None:
        return None
    return processes.is_alive(claim.pid, claim.born)
