"""`vocl tend`: one pass over submitted runs that brings them as far as they get without a person.

Collects how jobs ended that are gone, queues again what was lost through no fault of its own, and
queues what limits had left out. A pass changes nothing that another pass, or another person's, has
seen to already; made for cron.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from launch.run_states.states import LIVE, UNKNOWN, RunState, left_alone, look, with_sources
from launch.selection.plan import Spec, select
from launch.selection.selector import ChosenRuns, resolve
from launch.selection.submitted import PlacedRun
from launch.slurm import client
from launch.slurm.client import SlurmError
from launch.slurm.ledger import By
from launch.submission import resubmit, tend_job, tend_policy
from launch.submission.enqueue import Queued, enqueue, recover
from vocl.command_line import defaults
from vocl.command_line.verb import ABLATIONS, RUNS, SUBMITTED, Line, option, verb, words
from vocl.config.cluster import SlurmCluster
from vocl.config.grammar import setting
from vocl.errors import UserError, printable
from vocl.rundir import claims
from vocl.rundir.claims import Claim
from vocl.rundir.run_dir import RunDir

WATCH_S = 60.0


@verb("tend")
@words("SELECTOR | RUN...", SUBMITTED, takes=defaults.NAMES, offers=(ABLATIONS, RUNS))
@option("--watch", is_flag=True, help="Repeat until nothing is queued, running or to be queued.")
@option("--arm", is_flag=True, help="Queue a one-core job that does the same later (vocl submit --tend).")
def main(line: Line, watch: bool, arm: bool) -> int:
    """See how lost jobs ended, and queue again what deserves it.

    With --watch or --arm it tries again where SLURM or the disk does not answer: nobody else would go on
    once they do. Returns 0, or 1 where SLURM does not answer.
    """
    lasts = watch or (arm and "SLURM_JOB_ID" in os.environ)
    while True:
        target = resolve(line.words)  # anew each time: more may have been submitted under the name
        done = _pass(target, lasts)
        print(time.strftime("%F %T ") + done.summary if watch or arm else done.summary, flush=True)
        if done.trouble or not (watch and done.live):
            well = not done.trouble and (not arm or _schedule(target, done))
            if well or not lasts:
                return 0 if well else 1
        time.sleep(WATCH_S)


def _pass(target: ChosenRuns, lasts: bool) -> Pass:
    try:
        return tend(target)
    except OSError as error:
        trouble = f"{target.root}: cannot write there: {error.strerror}: {error.filename}"
        if lasts:
            return Pass({}, trouble=trouble)
        raise UserError(trouble) from None


def _schedule(target: ChosenRuns, done: Pass) -> bool:
    return tend_job.schedule(target, 0 if done.queued.arrays else int(WATCH_S))  # never in a tight circle


@dataclass
class Pass:
    """What a pass found in the end; `trouble` where SLURM did not answer."""

    states: dict[str, RunState]
    queued: Queued = field(default_factory=Queued)
    trouble: str = ""

    @property
    def live(self) -> bool:
        """Whether something may happen yet without a person."""
        return any(
            state.name in (*LIVE, UNKNOWN)
            or (state.name != "blocked" and tend_policy.is_left_out(state.claim))
            for state in self.states.values()
        )

    @property
    def summary(self) -> str:
        """One line."""
        if not self.states:
            return self.trouble or "0 runs"
        counts = Counter(state.name for state in self.states.values())
        words = [f"{count} {name}" for name, count in sorted(counts.items())]
        if self.queued.refused:
            words.append(f"{len(self.queued.refused)} not let in: {self.queued.trouble}")
        if self.queued.lost:
            words.append(f"{len(self.queued.lost)} claimed by another submit at the same moment")
        told = f"{len(self.states)} runs: {', '.join(words)}"
        return f"{told}; {self.trouble}" if self.trouble else told


def tend(target: ChosenRuns) -> Pass:
    """One pass over the runs of `target`."""
    root, labels = target.root, {entry.id: entry for entry in target.entries}
    with suppress(SlurmError):
        recover(root, target.runs)
    states, trouble = look(root, target.runs)
    if trouble:
        return Pass(states, trouble=trouble)
    for line in left_alone(states):
        print(line, file=sys.stderr)
    for run in target.runs:
        states[run] = _collect(root.run(run), states[run], labels[run])
    states = with_sources(states, {entry.id: entry.after for entry in target.entries if entry.after})
    try:
        todo = _wanted(target, states)
        left, room = _left_out(target, states)
    except SlurmError as error:
        return Pass(states, trouble=str(error))
    reasons = {spec.id: reason for spec, reason in todo} | {spec.id: "was left out" for spec in left}
    queued = Queued()
    name = [target.name] if target.name else []
    for specs, limit in (([spec for spec, _ in todo], None), (left, room)):
        known = [spec for spec in specs if states[spec.id].claim is not None]
        new = [spec for spec in specs if states[spec.id].claim is None]
        queued.add(resubmit.again(root, known, states, name, limit, By.TEND))
        queued.add(enqueue(root, new, states, name, by=By.TEND))
    for job, runs in queued.arrays.items():
        for run in runs:
            print(printable(f"queued {labels[run].described} in job {job}: {reasons[run]}"))
            states[run] = RunState("queued", reasons[run])
    well = queued.cause is None or queued.cause.is_limit
    return Pass(states, queued, "" if well else queued.trouble)


def _collect(run: RunDir, state: RunState, entry: PlacedRun) -> RunState:
    """Write down how a job ended that is gone and has not said it itself."""
    claim = state.claim
    if claim is None or claim.end is not None or claim.cluster != "slurm" or not tend_policy.is_mine(claim):
        return state
    if state.name not in ("interrupted", "failed") or claims.newest(run) != claim:
        return state  # it has moved since: the next pass sees more
    if run.is_done():
        return state
    outcome = "failed" if state.name == "failed" else "stopped"
    step = run.newest_step() or 0
    texts = {"reason": state.reason, "line": state.reason}
    claims.over(claim, outcome, state.cause, **texts, job=state.job, step=step)
    where = f" on {state.node}" if state.node else ""
    print(printable(f"collected {entry.described}: {state.reason}{where}, saved at step {step}"))
    return _seen(run, state)


def _wanted(target: ChosenRuns, states: dict[str, RunState]) -> list[tuple[Spec, str]]:
    """Runs to queue again, and why; gives up, on record, those that would come to nothing."""
    killed = {run: state for run, state in states.items() if tend_policy.was_sigkilled(state)}
    ended = tend_policy.accounted(target.root, killed)
    found, seen = [], set()
    for entry in target.entries:
        folder, state = target.root.run(entry.id), states[entry.id]
        if entry.id in seen or tend_policy.is_left_out(state.claim) or not tend_policy.is_mine(state.claim):
            continue
        seen.add(entry.id)
        verdict = tend_policy.judge(target.root, folder, state, ended.get(entry.id))
        if verdict is None or state.claim is None:
            continue
        if verdict.again:
            spec = _frozen(target, entry, state.claim, verdict.cluster)
            found += [(spec, verdict.reason)] if spec is not None else []
        else:
            kept = {key: value for key, value in (state.claim.end or {}).items() if key != "time"}
            changed = {"outcome": "failed", "cause": verdict.cause, "reason": verdict.reason}
            claims.over(state.claim, **kept | changed)
            print(printable(f"gave up {entry.described}: {verdict.reason}"))
            states[entry.id] = _seen(folder, state)
    return found


def _left_out(target: ChosenRuns, states: dict[str, RunState]) -> tuple[list[Spec], int | None]:
    """Runs that were selected and never let in, and for how many of them there may be room by now."""
    unclaimed = [e for e in target.entries if states[e.id].name == "absent" and states[e.id].claim is None]
    able = {e.id: e for e in target.entries if states[e.id].name not in ("waiting", "blocked")}
    entries = {run: entry for run, entry in able.items() if tend_policy.is_left_out(states[run].claim)}
    found = [_frozen(target, entry, states[run].claim, {}) for run, entry in entries.items()]
    specs = [spec for spec in found if spec is not None]
    specs += _composed(target, {entry.id for entry in unclaimed})
    counts = [_found_full(states[run].claim) for run in entries]
    known = [count for count in counts if count is not None]
    if not specs or not known or known != counts:
        return specs, None
    # that many were let in once; where some have left, twice as many are tried, to find the limit again
    room = max(1, *known) - client.own_jobs()
    return (specs, 2 * room) if room > 0 else ([], 0)


def _found_full(claim: Claim | None) -> int | None:
    """How many jobs were queued as a limit kept a run out; None where something else did."""
    end = (claim.end if claim else None) or {}
    cause = end.get("cause")
    return end.get("in_queue") if cause is not None and cause.is_limit else None


def _composed(target: ChosenRuns, runs: set[str]) -> list[Spec]:
    """Runs whose submission broke off before they were claimed; those of other ids by now are left."""
    if not runs or not target.arguments:
        return []
    selection = target.selection or select([*target.arguments, setting("runtime.root", target.root)])
    specs = [spec for spec in selection.runs if spec.id in runs]
    return [spec for spec in specs if isinstance(spec.config.cluster, SlurmCluster)]


def _frozen(
    target: ChosenRuns, entry: PlacedRun, claim: Claim | None, cluster: dict[str, Any]
) -> Spec | None:
    """The run as it was submitted; where that is not to be had it says so, and the others go on."""
    try:
        resubmit.code_of(target.root, entry.id, claim)
        return resubmit.spec_of(target.root, entry, claim, cluster)
    except UserError as error:
        print(f"not queued {entry.described}: {error}")
        return None


def _seen(run: RunDir, state: RunState) -> RunState:
    """`state` with what was just written about its claim."""
    claim = claims.newest(run)
    end = (claim.end if claim else None) or {}
    name = "failed" if end.get("outcome") == "failed" else state.name
    reason, cause = end.get("reason", state.reason), end.get("cause", state.cause)
    return RunState(name, reason, state.step, job=state.job, node=state.node, claim=claim, cause=cause)
