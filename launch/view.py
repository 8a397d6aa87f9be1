"""What the ledger and the scheduler say about claims: one squeue and at most one sacct."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from launch import ledger, slurm
from launch.ledger import Submission
from launch.slurm import EndedJob, QueuedJob, SlurmError
from vocl.claims import Claim


@dataclass
class View:
    """The scheduler's answer for some submissions; `trouble` where it did not answer."""

    submissions: dict[str, Submission]
    queued: dict[tuple[str, int], QueuedJob]
    ended: dict[tuple[str, int], EndedJob] | None
    trouble: str = ""
    damaged: dict[str, str] = field(default_factory=dict)  # by token: the entry that cannot be read

    def element(self, claim: Claim) -> tuple[str, int]:
        """Job name and array index of the job that a claim is about."""
        entry = self.submissions.get(claim.token)
        return ledger.NAME.format(token=claim.token), entry.index(claim.folder.name) if entry else -1

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
            return EndedJob(queued.state, "unknown", queued.node, 0)
        return ended if ended is not None and ended.state not in (*slurm.ACTIVE, *slurm.PENDING) else None


Asker = Callable[[Path, list[Claim]], View]


def ask(root: Path, unclear: list[Claim], timeout_s: float = slurm.TIMEOUT_S) -> View:
    """Ask the scheduler about claims; about those on SLURM alone, and not at all without any."""
    found = {token: ledger.read(root, token) for token in sorted({claim.token for claim in unclear})}
    submissions = {token: entry for token, entry in found.items() if entry is not None}
    damaged = {token: name for token in found.keys() - submissions if (name := ledger.damaged(root, token))}
    still = {claim.token for claim in unclear if claim.is_open}
    try:
        queued = slurm.queue((e.name for token, e in submissions.items() if token in still), timeout_s)
    except SlurmError as error:
        return View(submissions, {}, None, str(error), damaged)
    view = View(submissions, queued, {}, damaged=damaged)
    tokens = {claim.token for claim in unclear if not view.is_live(claim)}
    gone = [entry for token, entry in submissions.items() if token in tokens and entry.job]
    since = min((entry.time for entry in gone), default=0.0)
    view.ended = slurm.accounting((e.job for e in gone if e.job), since, timeout_s)
    return view
