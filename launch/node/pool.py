"""A pool of child processes on this machine. A child's failure is its own; a stop signal stops all."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import IO

from launch.node.log_tail import last_line
from launch.node.progress import PoolProgress
from vocl.files import open_plain
from vocl.rundir import causes, claims
from vocl.rundir.causes import Cause
from vocl.rundir.claims import Claim
from vocl.rundir.results_root import root_of
from vocl.rundir.run_dir import RunDir
from vocl.stop import EXIT_STOPPED, EXIT_TAKEN, SIGNALS

POLL_S = 0.1
MORE_S = 1.0  # between two questions for more jobs


@dataclass(frozen=True)
class Job:
    """A command to run, and where it says what it does."""

    id: str
    label: str
    command: tuple[str, ...]
    run: RunDir  # its log takes the output
    steps: int
    claim: Claim
    after: str | None = None  # id of the run whose weights it starts from

    @property
    def is_ready(self) -> bool:
        """Whether those weights are there."""
        return self.after is None or root_of(self.run).run(self.after).is_done()


@dataclass(frozen=True)
class Outcome:
    """How a job ended: its exit code (negative: the signal that ended it) and last line of output.

    `trained`: it left its result; with another code than 0 one of its evaluations failed.
    """

    job: Job
    code: int
    seconds: float
    last_line: str
    asked_to_stop: bool
    trained: bool

    @property
    def state(self) -> str:
        """done, stopped (goes on when run again) or failed."""
        if self.code == 0 or self.trained:
            return "done"
        stopped = self.code in (EXIT_STOPPED, EXIT_TAKEN) or (self.asked_to_stop and self.code < 0)
        return "stopped" if stopped else "failed"

    @property
    def cause(self) -> Cause | None:
        """Of an end that is not the run's."""
        if self.state == "done":
            return None
        return Cause.STOPPED if self.state == "stopped" else causes.of_exit(self.code)


More = Callable[[], list[Job] | None]


@dataclass
class _Child:
    job: Job
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    offset: int
    began: float = field(default_factory=time.monotonic)


class Pool:
    """Runs jobs `slots` at a time. `stopped` tells whether a signal ended the work early.

    Children have sessions of their own, so that a terminal's Ctrl-C reaches them once, through
    here, as SIGTERM; a second Ctrl-C kills them (their last checkpoint holds). They outlive a kill
    -9 of this process: unlike a job's, they take nothing that was given to somebody else, and their
    work is not lost. Each is named in its claim's start record, so that `vocl status` sees it, no
    submit doubles it, and `vocl cancel` ends it also then.
    """

    def __init__(self, slots: int, environment: Mapping[str, str], board: PoolProgress) -> None:
        self.slots, self.environment, self.board = slots, {**os.environ, **environment}, board
        self.children: list[_Child] = []
        self.signals: list[int] = []
        self.forwarded: int | None = None

    @property
    def stopped(self) -> bool:
        """Whether a stop signal came."""
        return bool(self.signals)

    def run(self, jobs: Sequence[Job], more: More | None = None) -> list[Outcome]:
        """Run all jobs; returns the outcomes of those that were started. A job whose source is not
        done when nothing else is left to do is not started. `more` is asked while a slot is free; None says
        that nothing comes any more."""
        waiting, outcomes, asked = list(jobs), [], 0.0
        with self._catching(), self.board:
            try:
                while self.children or ((more or any(job.is_ready for job in waiting)) and not self.stopped):
                    ready = [job for job in waiting if job.is_ready]
                    idle = len(ready) + len(self.children) < self.slots and not self.stopped
                    if more and idle and time.monotonic() > asked + MORE_S:
                        found, asked = more(), time.monotonic()
                        more = more if found is not None else None
                        waiting += found or []
                        continue
                    while ready and len(self.children) < self.slots and not self.stopped:
                        waiting.remove(ready[0])
                        self._start(ready.pop(0))
                    outcomes += self._reap()
                    self._forward()
                    time.sleep(POLL_S)
            finally:  # an error of our own must not leave children behind
                for child in self.children:
                    self._signal(child, signal.SIGTERM)
                for child in self.children:
                    child.process.wait()
        return outcomes

    def _start(self, job: Job) -> None:
        log = open_plain(job.run.log_path)
        offset = log.tell()
        process = subprocess.Popen(
            job.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=self.environment | {"VOCL_CLAIM": job.claim.token},
            start_new_session=True,
        )
        claims.began(job.claim, process.pid)
        self.children.append(_Child(job, process, log, offset))
        self.board.started(job.id, job.label, job.steps)

    def _reap(self) -> list[Outcome]:
        ended = []
        for child in list(self.children):
            code = child.process.poll()
            if code is None:
                self.board.update(child.job.id, child.job.run)
                continue
            self.children.remove(child)
            child.log.close()
            seconds = time.monotonic() - child.began
            line = last_line(child.job.run.log_path, child.offset)
            # read, not `is_done`: a disk that does not answer must not make a failure a success
            trained = child.job.run.result_or_none() is not None
            ended.append(Outcome(child.job, code, seconds, line, self.forwarded is not None, trained))
            claims.over(child.job.claim, ended[-1].state, ended[-1].cause, code=code, line=line)
            self.board.ended(child.job.id, ended[-1].state, seconds)
        return ended

    def _forward(self) -> None:
        """SIGTERM on the first stop signal, SIGKILL on a second Ctrl-C."""
        wanted = signal.SIGKILL if self.signals.count(signal.SIGINT) > 1 else signal.SIGTERM
        if not self.stopped or self.forwarded == wanted:
            return
        self.forwarded = wanted
        self.board.stopping(len(self.children))
        for child in self.children:
            self._signal(child, wanted)

    def _signal(self, child: _Child, number: int) -> None:
        if number == signal.SIGKILL:  # with what it started itself; a stop is the child's own to pass on
            with suppress(ProcessLookupError):
                os.killpg(child.process.pid, number)
        else:
            child.process.send_signal(number)

    @contextmanager
    def _catching(self) -> Iterator[None]:
        """Within the block stop signals are noted instead of ending this process."""

        def note(number: int, frame: FrameType | None) -> None:
            self.signals.append(number)

        caught = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]  # nohup
        before = {number: signal.signal(number, note) for number in caught}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
