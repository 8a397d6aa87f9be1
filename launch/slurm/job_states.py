"""What the ledger and the scheduler say about claims: one squeue, and for those that it does not list one
sacct, one scontrol, and one more for each of their arrays."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable
from dataclasses import dataclass, field

from launch.slurm import client, ledger
from launch.slurm.client import Controller, EndedJob, QueuedJob, SlurmError
from launch.slurm.ledger import Submission
from vocl.rundir.claims import Claim
from vocl.rundir.results_root import ResultsRoot


@dataclass
class SchedulerAnswer:
    """The scheduler's answer for some submissions; `trouble` where it did not answer."""

    submissions: dict[str, Submission]
    queued: dict[tuple[str, int], QueuedJob]
    ended: dict[tuple[str, int], EndedJob] | None
    trouble: str = ""
    damaged: dict[str, str] = field(default_factory=dict)  # by token: the entry that cannot be read
    hidden: dict[str, str] = field(
        default_factory=dict
    )  # by token: why this scheduler cannot know of its job

    def element(self, claim: Claim) -> tuple[str, int]:
        """Job name and array index of the job that a claim is about."""
        entry = self.submissions.get(claim.token)
        return ledger.NAME.format(token=claim.token), entry.index(claim.run.id) if entry else -1

    def is_live(self, claim: Claim) -> bool:
        """Whether that job runs or may run yet."""
        job = self.queued.get(self.element(claim))
        return job is not None and job.is_live

    def accounted(self, claim: Claim) -> EndedJob | None:
        """How that job's last execution ended, as far as accounting or the queue say."""
        ended = (self.ended or {}).get(self.element(claim))
        queued = self.queued.get(self.element(claim))
        if queued is not None and not queued.is_live and (ended is None or ended.state != queued.state):
            # accounting is absent or lags behind: it may still tell of the execution before
            return EndedJob(queued.state, "unknown", queued.node)
        return ended if ended is not None and not ended.is_live else None

    def doubt(self, claim: Claim) -> str:
        """Why that job, which is not in the queue, may live all the same; "" where it is known to be gone."""
        name, index = self.element(claim)
        if (name, index) in self.queued:
            return ""
        said = (self.ended or {}).get((name, index))
        if claim.token in self.hidden or said is None or not said.is_live:
            return self.hidden.get(claim.token, "")
        # of an array of which it lists others, one that was cancelled while pending counts as PENDING on
        cancelled = (
            said.state == "PENDING" and claim.start is None and name in {key for key, _ in self.queued}
        )
        return "" if cancelled else f"not in the queue, but accounting says {said.state}"


Asker = Callable[[ResultsRoot, list[Claim]], SchedulerAnswer]


def ask(root: ResultsRoot, unclear: list[Claim], timeout_s: float = client.TIMEOUT_S) -> SchedulerAnswer:
    """Ask the scheduler about claims; about those on SLURM alone, and not at all without any."""
    found = {token: ledger.read(root, token) for token in sorted({claim.token for claim in unclear})}
    submissions = {token: entry for token, entry in found.items() if entry is not None}
    damaged = {token: name for token in found.keys() - submissions if (name := ledger.damaged(root, token))}
    view = SchedulerAnswer(submissions, {}, None, damaged=damaged)
    still = [claim for claim in unclear if claim.is_open and claim.token in submissions]
    try:
        view.queued = client.queue((submissions[claim.token].name for claim in still), timeout_s)
        tokens = {claim.token for claim in unclear if not view.is_live(claim)}
        gone = [entry for token, entry in submissions.items() if token in tokens and entry.job]
        since = min((entry.time for entry in gone), default=0.0)
        view.ended = client.accounting((entry.job for entry in gone if entry.job), since, timeout_s)
        lacking = {claim.token for claim in still if view.element(claim) not in view.queued}
        _ask_again(view, [submissions[token] for token in sorted(lacking)], timeout_s)
    except SlurmError as error:
        return SchedulerAnswer(submissions, {}, None, str(error), damaged)
    return view


def _ask_again(view: SchedulerAnswer, lacking: list[Submission], timeout_s: float) -> None:
    """Complete `view` by what the controller knows of submissions of which the queue lacked something."""
    if not lacking:
        return
    here, accounted = client.controller(timeout_s), {name for name, _ in view.ended or ()}
    for entry in lacking:
        if hidden := _hidden(entry, here, entry.name in accounted):
            view.hidden[entry.token] = hidden
        elif entry.job is None:
            view.queued |= client.queue([entry.name], timeout_s)
        else:
            view.queued |= client.listed(entry.job, timeout_s)


def _hidden(entry: Submission, here: Controller, accounted: bool) -> str:
    """Why this cluster's controller cannot tell whether a job is alive; "" where it can.

    `accounted`: its accounting knows the job. That counts where no cluster is on record, if it was sent
    from another machine, and where the controller of a cluster of that name is another machine's.
    """
    there, this = entry.sent_to, here.cluster
    if there is None and not accounted and entry.host != os.uname().nodename:
        return f"submitted on {entry.host}, nobody recorded to which cluster; this is {_name(this)}"
    if there is not None and _name(there) != _name(this):
        return f"submitted to cluster {_name(there)}, this is {_name(this)}"
    if there is not None and "@" in there and there != this and not accounted:
        return f"submitted to cluster {there}, this is {this}"
    if here.hides_jobs and entry.user != getpass.getuser():
        return f"a job of {entry.user}, and this cluster shows nobody another's jobs"
    return ""


def _name(cluster: str) -> str:
    return cluster.partition("@")[0]
