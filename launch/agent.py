"""On the node: starts the runs of one array element as child processes and sees them to their end.

submitit calls `Agent`, whose signal handlers replace submitit's: they only note the signal. Children
get it passed on, save at a step boundary and leave with 75. After that
- SIGTERM (preemption, scancel): the scheduler knows what comes next; it requeues by itself or it does not;
- SIGINT (a person): nothing; `vocl tend` and `vocl submit` take the run up again;
- USR2 alone (the time limit is near), or another warning: the agent requeues the job, up to `max_requeues`
  times, unless its runs got no further `IDLE_SLICES` times in a row.
The agent ends with 0, 1 (a run failed) or 75, so accounting tells the truth. Imports no torch.

This module and `launch.ports` stay where they are: jobs name them, and import them from the snapshot that
their runs were submitted with first, which may be of an earlier version.
"""

from __future__ import annotations

import functools
import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import NoReturn

from launch import ports
from launch.node import headway
from launch.node.headway import Mark
from launch.node.log_tail import last_line
from launch.slurm import client, ledger
from vocl.files import open_plain
from vocl.rundir import causes, claims
from vocl.rundir.attempts import Attempts
from vocl.rundir.causes import Cause
from vocl.rundir.claims import Claim
from vocl.rundir.results_root import ResultsRoot, root_of
from vocl.rundir.run_dir import RunDir
from vocl.stop import EXIT_STOPPED, EXIT_TAKEN, SIGNALS, end_with_parent
from vocl.tracking import log

POLL_S = 0.2
CLAIM_S = 10.0  # for a network disk to show the claim that its job was queued for
IDLE_SLICES = 3  # jobs in a row, each up to the time limit, in which a run may get no further
logger = logging.getLogger(__name__)
LEFT = (EXIT_STOPPED, EXIT_TAKEN)  # codes of a child that leaves its run for later


@dataclass
class Child:
    """A run being trained in a process of its own."""

    claim: Claim
    process: subprocess.Popen[bytes]
    began_at: Mark
    idle: int  # slices until now in which the run got no further
    code: int | None = None


@dataclass
class Agent:
    """The work of each element of submission `token` under `root`; called by submitit on the node."""

    root: str
    token: str
    children: list[Child] = field(default_factory=list)
    signals: list[int] = field(default_factory=list)
    failed: bool = False  # a run of this element that has no child: before the job was requeued, say

    def __call__(self) -> NoReturn:
        """Run this element; leaves the process with its exit code, without returning.

        submitit would turn an error into a result of its own, and write one that nobody reads for 0: a
        rank that is killed at that would leave a file because of which submitit fails it when requeued.
        """
        for number in SIGNALS:
            signal.signal(number, self._note)
        log.configure()
        code = self.work()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    def work(self) -> int:
        """Run this element to its end; returns the exit code of its job."""
        submission = ledger.read(ResultsRoot(Path(self.root)), self.token)
        assert submission is not None, f"no submission {self.token} in {self.root}"
        index = int(os.environ.get("SLURM_ARRAY_TASK_ID", "0"))
        rank = int(os.environ.get("SLURM_PROCID", "0"))
        world = int(os.environ.get("SLURM_NTASKS", "1"))
        runs = submission.elements[index]
        meeting = ports.given(len(runs)) if world > 1 else [0] * len(runs)
        for run, port in zip(runs, meeting, strict=True):
            found = ResultsRoot(Path(self.root)).run(run)
            if not self._lacks_source(found, submission.after.get(run), rank):
                self._start(found, rank, world, port)
        self._wait(rank)
        code = self._verdict()
        warned = self.signals and not {signal.SIGTERM, signal.SIGINT} & set(self.signals)
        if code == EXIT_STOPPED and warned and rank == 0:
            code = self._requeue(submission.on_slurm.max_requeues)
        # one rank speaks for all; others that ended too would only make srun kill it
        return code if rank == 0 or code == 1 else 0

    def _lacks_source(self, run: RunDir, source: str | None, rank: int) -> bool:
        """Whether `run` starts from weights that are not there: its source failed, or will run again.

        Its claim is given back, so that it can be queued once they are.
        """
        if source is None or root_of(run).run(source).is_done():
            return False
        claim = claims.newest(run)
        line = causes.sentence(Cause.NO_SOURCE, source=source)
        logger.warning("%s: %s", run.id, line)
        if rank == 0 and claim is not None and claim.token == self.token and claim.end is None:
            claims.over(claim, "withdrawn", Cause.NO_SOURCE, line=line)
        return True

    def _start(self, run: RunDir, rank: int, world: int, port: int) -> None:
        """Start a run, whose ranks meet at `port`, unless it is done or another claim owns it by now."""
        claim = self._claim(run)
        if run.is_done():
            logger.info("%s: done already", run.id)
            if claim and claim.token == self.token and claim.end is None and rank == 0:
                claims.over(claim, "done", code=0)
            return
        if claim is None:
            self._lacks_claim(run, rank)
            return
        if claim.token != self.token:
            logger.warning("%s: claimed by %s, not by this job", run.id, claim.token)
            return
        if claim.end is not None and claim.end["outcome"] != "stopped":
            logger.info("%s: %s in this job before it was requeued", run.id, claim.end["outcome"])
            # for rank 0 alone to tell: the others may end before it, and srun would kill it
            self.failed |= rank == 0 and claim.end["outcome"] == "failed"
            return
        idle = (claim.start or {}).get("idle") or 0
        if rank == 0:
            self._began(claim, idle)
        command = (sys.executable, "-m", "vocl.train", "--config", str(run.config_path))
        with open_plain(run.log_path_of(rank)) as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_environment(self.token, rank, world, port),
                # asked to stop when this agent is killed: else it would train on outside the
                # allocation, which the scheduler gives to somebody else
                preexec_fn=functools.partial(end_with_parent, os.getpid(), signal.SIGTERM),
            )
        self.children.append(Child(claim, process, headway.mark(run), idle))

    def _claim(self, run: RunDir) -> Claim | None:
        """Whose the run is: this submission's, or a later one's. None where none of them is to be seen
        within `CLAIM_S`: this job may not touch the run then."""
        until = time.monotonic() + CLAIM_S
        while True:
            known = claims.history(run)
            tokens = [claim.token for claim in known]
            if self.token in tokens or run.is_done():
                return known[-1] if known else None
            if time.monotonic() > until or self.signals:
                return None
            time.sleep(POLL_S)

    def _lacks_claim(self, run: RunDir, rank: int) -> None:
        """Say, and have it on record, that this job found no claim of its own on `run`."""
        line = f"no claim of submission {self.token} in {run.jobs}, so job {_job_id()} did not train it"
        logger.error("%s: %s", run.id, line)
        if rank == 0:
            self.failed = True
            other = claims.newest(run)
            if other is None or not other.is_open:  # else the records are of whoever has the run
                with suppress(OSError):
                    Attempts(run).end("failed", kind="NoClaim", message=line)

    def _began(self, claim: Claim, idle: int) -> None:
        restart = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
        claims.began(claim, job=_job_id(), restart=restart, idle=idle)

    def _wait(self, rank: int) -> None:
        """Until all children have ended; each end is recorded at once."""
        passed_on = False
        while any(child.code is None for child in self.children):
            if self.signals and not passed_on:
                passed_on = True
                for child in self.children:
                    with suppress(ProcessLookupError):
                        child.process.send_signal(signal.SIGTERM)
            for child in self.children:
                if child.code is None and child.process.poll() is not None:
                    # a finished run is done, whatever befell its process on the way out; read, not
                    # `is_done`: a disk that does not answer must not make a failure a success
                    finished = child.claim.run.result_or_none() is not None
                    child.code = 0 if finished else child.process.returncode
                    if rank == 0:
                        self._record(child)
            time.sleep(POLL_S)

    def _record(self, child: Child) -> None:
        code = child.code
        if code == 0:
            claims.over(child.claim, "done", code=0)
        elif code in LEFT or (self.signals and code is not None and code < 0):
            if not self.signals:  # nothing will bring it back but tend: it alone was stopped, or was held off
                line = last_line(child.claim.run.log_path) if code == EXIT_TAKEN else None
                claims.over(child.claim, "stopped", Cause.STOPPED, code=code, line=line)
        else:
            line = last_line(child.claim.run.log_path)
            claims.over(child.claim, "failed", causes.of_exit(code), code=code, line=line)

    def _verdict(self) -> int:
        codes = [child.code for child in self.children]
        wrong = [c for c in codes if c not in (0, *LEFT) and not (self.signals and (c or 0) < 0)]
        if wrong or self.failed:
            stopped = any(code in LEFT for code in codes)
            return EXIT_STOPPED if stopped and self.signals else 1
        return EXIT_STOPPED if any(code != 0 for code in codes) else 0

    def _requeue(self, most: int) -> int:
        """Have the job come back for the runs that may get further; the exit code of this time."""
        restart = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
        left = [child for child in self.children if child.code in LEFT or (child.code or 0) < 0]
        if restart >= most:
            for child in left:
                why = causes.sentence(Cause.MAX_REQUEUES, count=restart)
                claims.over(child.claim, "stopped", Cause.MAX_REQUEUES, code=child.code, line=why)
            return EXIT_STOPPED
        going = [child for child in left if self._may_go_on(child)]
        if not going:
            return 1
        try:
            client.ask("scontrol", "requeue", _job_id())
        except client.SlurmError as error:  # also when the scheduler was faster
            logger.warning("not requeued by this job: %s", error)
        return EXIT_STOPPED

    def _may_go_on(self, child: Child) -> bool:
        """Whether another slice may bring the run further; on record, also that it may not."""
        now = headway.mark(child.claim.run)
        idle = 0 if headway.is_further(now, child.began_at) else child.idle + 1
        if idle < IDLE_SLICES:
            self._began(child.claim, idle)
            return True
        why = causes.sentence(Cause.IDLE, count=idle, step=now[0])
        logger.error("%s: %s", child.claim.run.id, why)
        claims.over(child.claim, "failed", Cause.IDLE, code=child.code, reason=why, line=why)
        return False

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signals.append(number)


def _job_id() -> str:
    """The id by which SLURM's commands know this element."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    if array:
        return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ.get("SLURM_JOB_ID", "")


def _environment(token: str, rank: int, world: int, port: int) -> dict[str, str]:
    """Environment of a child: its claim, and its place among the ranks of its run."""
    environment = {**os.environ, "VOCL_CLAIM": token}
    if world > 1:
        environment |= {
            "RANK": str(rank),
            "WORLD_SIZE": str(world),
            "LOCAL_RANK": os.environ.get("SLURM_LOCALID", "0"),
            "MASTER_ADDR": _first_host(),
            "MASTER_PORT": str(port),
        }
    return environment


def _first_host() -> str:
    if os.environ.get("SLURM_NNODES", "1") == "1":
        return "127.0.0.1"
    return client.ask("scontrol", "show", "hostnames", os.environ["SLURM_JOB_NODELIST"]).split()[0]
