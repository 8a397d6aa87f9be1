"""How far the runs of a pool are: bars on a terminal, else a line per event."""

from __future__ import annotations

import logging
import os
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from vocl.files import open_regular, parse_json
from vocl.rundir.records import PROBE_S
from vocl.rundir.run_dir import RunDir

if TYPE_CHECKING:
    from rich.progress import TaskID

UPDATE_S = 0.5
logger = logging.getLogger(__name__)


class PoolProgress:
    """Counts `total` runs and logs a line for each that starts or ends."""

    def __init__(self, total: int) -> None:
        self.total, self.counts = total, {"done": 0, "stopped": 0, "failed": 0}
        self.labels: dict[str, str] = {}
        self.began = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def started(self, run: str, label: str, steps: int) -> None:
        """A run starts."""
        self.labels[run] = label
        self.say(f"started {run} ({label})")

    def update(self, run: str, place: RunDir) -> None:
        """A run is still going."""

    def ended(self, run: str, state: str, seconds: float) -> None:
        """A run ends in `state`."""
        self.counts[state] += 1
        self.say(f"{state} {run} ({self.labels[run]}) after {seconds:.0f} s; {self.summary()}")

    def stopping(self, running: int) -> None:
        """A stop signal came."""
        self.say(f"stopping: {running} runs save and leave")

    def say(self, line: str) -> None:
        """Tell one line."""
        logger.info(line)

    def summary(self) -> str:
        """Runs done and failed of all, and the time."""
        minutes, seconds = divmod(int(time.monotonic() - self.began), 60)
        failed = f", {self.counts['failed']} failed" if self.counts["failed"] else ""
        return f"{self.counts['done']} of {self.total} done{failed}, {minutes}:{seconds:02d}"


class PoolBars(PoolProgress):
    """A bar per running run, and one for all, kept up to date on a terminal."""

    def __init__(self, total: int) -> None:
        super().__init__(total)
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        description = TextColumn("{task.description}", markup=False)
        columns = (description, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.progress = Progress(*columns, console=Console(stderr=True))
        self.all = self.progress.add_task("all", total=total)
        self.tasks: dict[str, TaskID] = {}
        self.looked = 0.0

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def started(self, run: str, label: str, steps: int) -> None:
        self.labels[run] = label
        self.tasks[run] = self.progress.add_task(label, total=steps)

    def update(self, run: str, place: RunDir) -> None:
        task = self.progress.tasks[self.progress.task_ids.index(self.tasks[run])]
        if time.monotonic() - task.fields.get("looked", 0.0) < UPDATE_S:
            return
        step = steps_done(place)
        note = ", evaluates" if task.total and step >= task.total else ""
        self.progress.update(
            task.id, completed=step, description=self.labels[run] + note, looked=time.monotonic()
        )

    def ended(self, run: str, state: str, seconds: float) -> None:
        self.progress.remove_task(self.tasks.pop(run))
        super().ended(run, state, seconds)
        self.progress.update(
            self.all, completed=sum(self.counts.values()), description=f"runs ({self.summary()})"
        )

    def say(self, line: str) -> None:
        self.progress.console.print(line, markup=False, highlight=False)


def make_board(total: int) -> PoolProgress:
    """PoolBars on a terminal, else lines."""
    return PoolBars(total) if sys.stderr.isatty() else PoolProgress(total)


def steps_done(run: RunDir) -> int:
    """Steps a run has done, from the last whole line of its reports or its last sign of life."""
    steps = 0
    try:
        with open_regular(run.metrics_path) as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 4096))
            lines = log.read().split(b"\n")[:-1]
        last = parse_json(lines[-1])
        steps = int(last["step"]) + (PROBE_S not in last)  # a probe says how many are done
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        pass
    beat = run.beat()
    return max(steps, beat.step) if beat else steps
