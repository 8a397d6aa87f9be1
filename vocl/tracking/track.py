"""What a run says while it trains: its reports, a progress bar, signs of life, a mirror."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from vocl.files import finite, open_plain, parse_json, write_text
from vocl.rundir.attempt_events import ProbeScore
from vocl.rundir.records import PROBE, PROBE_S
from vocl.rundir.run_dir import RunDir
from vocl.tracking.mirror import Mirror

BEAT_S = 10.0


class Track:
    """Writes the reports of `run`, a line each, and its signs of life, on rank 0 alone.

    With `run` None (another rank, a replay) it writes nothing. `mirror` shows the same on a tracker.
    """

    def __init__(
        self, run: RunDir | None, total_steps: int, progress: bool, mirror: Mirror | None = None
    ) -> None:
        self.run, self.total_steps, self.mirror = run, total_steps, mirror
        self.attempt = self.at = 0
        self.beat_at = 0.0
        self.newest: ProbeScore | None = None
        self.bar = _bar(total_steps) if progress and run is not None and sys.stderr.isatty() else None
        self._clear()

    def resume(self, step: int, attempt: int) -> None:
        """Cut the log back to the checkpoint's step: what came after did not happen."""
        self.attempt, self.at = attempt, step
        path = self.run.metrics_path if self.run else None
        if path is not None and path.exists():
            lines = [line for line in path.read_text().splitlines() if _step_of(line) < step]
            write_text(path, "".join(f"{line}\n" for line in lines))
        beat = self.run.beat() if self.run else None
        if beat and beat.probe and beat.probe.step < step:
            self.newest = beat.probe
        if self.bar:
            self.bar.start()
            self.bar.update(self.bar.task_ids[0], completed=step)
        if path is not None and not path.exists():
            write_text(path, "")
        self.beat()
        if self.mirror:
            self.mirror.start()
        self._clear()

    def waited(self, seconds: float) -> None:
        """Account for time spent waiting for data."""
        self.wait_s += seconds

    def step(self, step: int, norm: float, clip: float | None) -> None:
        """Account for one step with gradient norm `norm`, clipped to `clip`."""
        self.at = step + 1
        self.steps += 1
        self.norms += norm
        self.clipped += clip is not None and norm > clip
        if self.bar:
            self.bar.update(self.bar.task_ids[0], completed=step + 1)
        self.alive()

    def log(self, step: int, report: dict[str, float]) -> None:
        """Write one line: the report, and the means of what was accounted for since the last one."""
        seconds = time.monotonic() - self.began
        line: dict[str, Any] = {"step": step, **report}
        line |= {
            "grad_norm": self.norms / self.steps,
            "clipped_share": self.clipped / self.steps,
            "steps_per_s": self.steps / seconds,
            "data_wait_share": self.wait_s / seconds,
            "memory_gib": _memory_gib(),
        }
        self._clear()
        self._write(line)
        if self.bar:
            self.bar.update(self.bar.task_ids[0], description=f"loss {report['loss']:.4f}")

    def probe(self, newest: ProbeScore, scores: Mapping[str, float], seconds: float) -> None:
        """Write a line with what a probe says, and `newest`, its word for boards, into the signs of life."""
        self.newest = newest
        named = {f"{PROBE}{name}": value for name, value in scores.items()}
        self._write({"step": newest.step, **named, PROBE_S: seconds})
        self.beat()

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Leave the time that is spent within the block out of the rates of the training."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.began += time.monotonic() - began

    def alive(self) -> None:
        """Give a sign of life if it is due; called at every step and every evaluated video."""
        if time.monotonic() - self.beat_at > BEAT_S:
            self.beat()

    def beat(self) -> None:
        """Give a sign of life."""
        self.beat_at = time.monotonic()
        if self.run is not None:
            self.run.write_beat(self.attempt, self.at, self.total_steps, self.newest)

    def close(self) -> None:
        """End the progress bar and the mirror."""
        if self.bar:
            self.bar.stop()
        if self.mirror:
            self.mirror.close()

    def _write(self, line: dict[str, Any]) -> None:
        if self.run is None:
            return
        with open_plain(self.run.metrics_path, "a") as log:
            log.write(json.dumps(finite(line)) + "\n")
        if self.mirror:
            self.mirror.check()

    def _clear(self) -> None:
        self.began = time.monotonic()
        self.wait_s = self.norms = 0.0
        self.steps = self.clipped = 0


def _bar(total: int) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True))
    bar.add_task("training", total=total)
    return bar


def _memory_gib() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _step_of(line: str) -> int:
    """Step of a log line; a line torn by a kill counts as never written."""
    try:
        return int(parse_json(line)["step"])
    except (ValueError, KeyError, TypeError):
        return sys.maxsize
