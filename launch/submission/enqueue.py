"""Claiming runs and handing them to SLURM: exactly once, crash-safe at every point."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from launch.agent import Agent
from launch.run_states.states import LIVE, RunState, is_submitting, look
from launch.selection.plan import Spec
from launch.slurm import client, ledger, sbatch
from launch.slurm.client import SlurmError
from launch.slurm.job_states import ask
from launch.slurm.ledger import By, Submission
from launch.slurm.refusals import Refused
from launch.slurm.request import with_paths
from launch.submission import snapshot
from launch.submission.job_config import freeze
from vocl.config.cluster import SlurmCluster
from vocl.rundir import causes, claims
from vocl.rundir.causes import Cause
from vocl.rundir.claims import Claim
from vocl.rundir.records import Records
from vocl.rundir.results_root import ResultsRoot


@dataclass
class Queued:
    """What a submission came to: runs per array, and what the scheduler refused."""

    arrays: dict[str, list[str]] = field(default_factory=dict)  # id -> run ids
    refused: list[Spec] = field(default_factory=list)
    lost: list[Spec] = field(default_factory=list)  # claimed by somebody else at the same moment
    cause: Cause | None = None  # of the gravest refusal
    trouble: str = ""  # what that said

    def refuse(self, specs: Iterable[Spec], cause: Cause | None, trouble: str) -> None:
        """Count `specs` among the refused."""
        self.refused += specs
        if cause is not None and (self.cause is None or cause.gravity > self.cause.gravity):
            self.cause, self.trouble = cause, trouble

    def add(self, part: Queued) -> None:
        """Count what `part` came to into this."""
        self.arrays |= part.arrays
        self.lost += part.lost
        self.refuse(part.refused, part.cause, part.trouble)


def enqueue(
    root: ResultsRoot,
    specs: Sequence[Spec],
    states: dict[str, RunState],
    arguments: Iterable[str],
    code: Path | None = None,
    room: int = sys.maxsize,
    by: By = By.USER,
) -> Queued:
    """Claim `specs` and queue them: an array per shape of resources, and per MaxArraySize of elements.

    Crash-safe at every point: the ledger is written before the claims, the claims before sbatch, and
    the job's name finds a job whose submitter died before it could write down the id. At most `room`
    jobs, and as many as SLURM's and the cluster's limits let in; the other runs keep their config and
    a claim that is withdrawn, from which `vocl tend` queues them. A run whose source is neither done
    nor queued is left out as well. `code`: an earlier snapshot.
    """
    queued = Queued()
    if not specs:
        return queued
    specs = [replace(s, config=replace(s.config, cluster=with_paths(on_slurm(s)))) for s in specs]
    try:
        here, room = client.controller(), min(room, _room(specs))
    except SlurmError as error:
        return Queued(refused=list(specs), cause=Cause.UNREACHABLE, trouble=str(error))
    taken: dict[str | None, Path] = {}  # one submission has one code, also if the checkout is being edited
    for cluster, group in shapes(specs):
        elements = _packed(_with_source(root, group, queued), cluster.runs_per_job)
        project = group[0].config.project
        if elements and project not in taken:
            taken[project] = code or snapshot.take(root, project)
        size, sent_to = here.max_array_size, cluster.sbatch.get("clusters", here.cluster)
        for begin in range(0, len(elements), size):
            chunk = elements[begin : begin + size]
            room -= _enqueue_array(
                root, cluster, chunk, states, arguments, queued, taken[project], room, sent_to, by
            )
    return queued


def _enqueue_array(
    root: ResultsRoot,
    cluster: SlurmCluster,
    chunk: list[list[Spec]],
    states: dict[str, RunState],
    arguments: Iterable[str],
    queued: Queued,
    code: Path,
    room: int,
    sent_to: str,
    by: By,
) -> int:
    """Queue `chunk` as one array, or its beginning where not all is let in; returns how many jobs."""
    after = {s.id: s.after for e in chunk for s in e if s.after}
    elements = [[s.id for s in e] for e in chunk]
    submission = ledger.write(root, cluster, elements, code, arguments, after, sent_to, by)
    made = {s.id: _claim(root, s, states[s.id].claim, submission) for e in chunk for s in e}
    won = [[spec for spec in element if made[spec.id]] for element in chunk]
    won = [element for element in won if element]
    queued.lost += [spec for element in chunk for spec in element if not made[spec.id]]
    if not won:
        return 0
    submission = ledger.narrow(submission, [[spec.id for spec in element] for element in won])
    specs = [spec for element in won for spec in element]
    try:
        for spec in specs:
            freeze(root.run(spec.id), spec, snapshot.project_in(code, spec.config.project))
        work = Agent(str(root), submission.token)
        job, sent, refusal = _send(submission, work, code, _sources(root, specs), room)
    except BaseException:
        if _found(submission) is None:
            _withdraw(made, {spec.id for spec in specs}, Cause.BROKEN_OFF)
        raise
    accepted = {run for element in sent.elements for run in element} if job else set()
    if job:
        ledger.accepted(sent, job)
        queued.arrays[job] = [spec.id for spec in specs if spec.id in accepted]
    if refusal:
        left = [spec for spec in specs if spec.id not in accepted]
        _withdraw(made, {s.id for s in left}, refusal.cause, line=str(refusal), in_queue=_in_queue())
        queued.refuse(left, refusal.cause, str(refusal))
    return len(sent.elements) if job else 0


def _send(
    submission: Submission, work: Agent, code: Path, after: list[str], room: int
) -> tuple[str | None, Submission, Refused | None]:
    """Have the scheduler take the first elements of `submission`, halving their number while there are
    more than it lets in; returns its id of them, the entry narrowed to them, and what kept the others."""
    refusal = None
    if len(submission.elements) > room:
        refusal = Refused(causes.sentence(Cause.MAX_JOBS), Cause.MAX_JOBS)
        if room <= 0:
            return None, submission, refusal
        submission = ledger.narrow(submission, submission.elements[:room])
    while True:
        try:
            return sbatch.submit(submission, work, code, after), submission, refusal
        except Refused as error:
            if (job := _found(submission)) is not None:
                return job, submission, refusal
            refusal, count = error, len(submission.elements)
            if count == 1 or not refusal.cause.is_limit:
                return None, submission, refusal
            submission = ledger.narrow(submission, submission.elements[: count // 2])


def _withdraw(made: dict[str, Claim | None], runs: Iterable[str], cause: Cause, **facts: Any) -> None:
    for claim in (made[run] for run in runs):
        if claim is not None:
            _give_back(claim, cause, **facts)


def _give_back(claim: Claim, cause: Cause, **facts: Any) -> None:
    """Record that no job of a claim ever began."""
    claims.over(claim, "withdrawn", cause, **(facts or {"line": causes.sentence(cause)}))


def _in_queue() -> int | None:
    """How many jobs of this user the scheduler holds."""
    try:
        return client.own_jobs()
    except SlurmError:
        return None


def recover(root: ResultsRoot, runs: Iterable[str]) -> None:
    """See to submissions whose submitter died before it could write down the job's id.

    A job that the scheduler has, and whose files are whole, is theirs; any other is cancelled and its
    claims are withdrawn, so that the runs can be submitted again. Where nobody can tell whether there is
    a job, nothing is done.
    """
    owners = [each.claim for each in (Records(root.run(run)) for run in runs) if not each.trouble]
    for token in {claim.token for claim in owners if claim and not claim.end and claim.cluster == "slurm"}:
        submission = ledger.read(root, token)
        held = [claim for claim in owners if claim and claim.token == token and not claim.end]
        if submission is None or any(is_submitting(claim) for claim in held):
            continue
        for claim in held:
            if submission.index(claim.run.id) < 0:  # left out of what was sent
                _give_back(claim, Cause.SUBMITTER_DIED)
        held = [claim for claim in held if submission.index(claim.run.id) >= 0]
        if submission.job is not None:
            continue
        view = ask(root, held)
        if view.trouble:
            raise SlurmError(view.trouble)
        job = next((j.job for j in view.queued.values() if j.name == submission.name and j.is_live), None)
        if job is None and any(view.doubt(claim) for claim in held):
            continue
        if job is not None and sbatch.is_whole(submission, job):
            ledger.accepted(submission, job)
            continue
        if job is not None:
            client.cancel([job])
        for claim in held:
            _give_back(claim, Cause.SUBMITTER_DIED)


def _found(submission: Submission) -> str | None:
    """The id of a submission's job if the scheduler has it after all."""
    try:
        return next((j.job for j in client.queue([submission.name]).values() if j.is_live), None)
    except SlurmError:
        return None


def _claim(root: ResultsRoot, spec: Spec, before: Claim | None, submission: Submission) -> Claim | None:
    return claims.make(root.run(spec.id), before, submission.token, submission.cluster.kind)


def _room(specs: Sequence[Spec]) -> int:
    """How many more jobs `cluster.max_jobs` allows."""
    limits = [limit for spec in specs if (limit := on_slurm(spec).max_jobs) is not None]
    return max(0, min(limits) - client.own_jobs()) if limits else sys.maxsize


def on_slurm(spec: Spec) -> SlurmCluster:
    """What a run that goes to SLURM asks for there."""
    assert isinstance(spec.config.cluster, SlurmCluster), spec
    return spec.config.cluster


def shapes(specs: Sequence[Spec]) -> list[tuple[SlurmCluster, list[Spec]]]:
    """Runs by what they ask of the cluster, by project, and by how many others in a row must be done
    before they can start; sources come before what starts from them."""
    sources = {spec.id: spec.after for spec in specs}
    groups: dict[tuple[int, str], list[Spec]] = {}
    for spec in specs:
        depth, source = 0, spec.after
        while source is not None:
            depth, source = depth + 1, sources.get(source)
        shape = json.dumps([vars(spec.config.cluster), spec.config.project], sort_keys=True)
        groups.setdefault((depth, shape), []).append(spec)
    ordered = sorted(groups.items(), key=lambda item: item[0][0])
    return [(on_slurm(group[0]), group) for _, group in ordered]


def _with_source(root: ResultsRoot, specs: list[Spec], queued: Queued) -> list[Spec]:
    """Those of `specs` whose source is done or on its way; the others are put with the refused."""
    found, _ = look(root, {spec.after for spec in specs if spec.after})
    going = {run for run, state in found.items() if state.name == "done" or state.name in LIVE}
    for spec in specs:
        if spec.after and spec.after not in going:
            queued.refuse([spec], Cause.NO_SOURCE, causes.sentence(Cause.NO_SOURCE, source=spec.after))
    return [spec for spec in specs if not spec.after or spec.after in going]


def _packed(specs: list[Spec], size: int) -> list[list[Spec]]:
    return [specs[begin : begin + size] for begin in range(0, len(specs), size)]


def _sources(root: ResultsRoot, specs: Sequence[Spec]) -> list[str]:
    """Ids of the arrays that train what `specs` start from."""
    states, _ = look(root, [spec.after for spec in specs if spec.after])
    going = [state for state in states.values() if state.name in LIVE and state.in_queue]
    return sorted({state.job.partition("_")[0] for state in going})
