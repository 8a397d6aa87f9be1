"""The executions of a run, each with a start and an end event in files of their own."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vocl.files import finite, write_bytes, write_json
from vocl.rundir import attempt_events
from vocl.rundir.attempt_events import Heartbeat
from vocl.rundir.result import Result
from vocl.rundir.run_dir import RunDir

if TYPE_CHECKING:
    from vocl.config.run_config import RunConfig

RESERVE_BYTES = 16384  # given back when the disk is full, so that the record of it can be written
END_NAME = re.compile(r"^\d{4}-(done|stopped|failed|killed)\.json$")


class Attempts:
    """The executions of one run, each with a start and an end event in files of their own.

    One file per event: appends to a shared file from two hosts can tear. Rank 0 alone starts and
    ends attempts; another rank leaves a record only of its own failure.
    """

    def __init__(self, run: RunDir) -> None:
        self.run, self.events = run, run.events
        self.began = time.time()
        numbers = [int(path.name.partition("-")[0]) for path in self.events.glob("[0-9]*-*.json")]
        self.number = max(numbers, default=0) + 1

    def start(self, step: int, environment: dict[str, Any]) -> None:
        """Record that this attempt starts at `step`; keeps some disk for the record of its end."""
        self._end_killed()
        event = {"attempt": self.number, "time": self.began, "step": step, "pid": os.getpid(), **environment}
        write_json(self.events / f"{self.number:04d}-start.json", event)
        write_bytes(self._reserve, bytes(RESERVE_BYTES))

    def end(self, outcome: str, rank: int = 0, **facts: Any) -> Path:
        """Record how this attempt ended: done, stopped, or a failure with its facts."""
        self._reserve.unlink(missing_ok=True)
        name = f"{self.number:04d}-{outcome}{f'-rank{rank}' if rank else ''}.json"
        now = time.time()
        event = {"attempt": self.number, "time": now, "outcome": outcome, "wall_s": now - self.began, **facts}
        write_json(self.events / name, finite(event, spell=repr))
        return self.events / name

    def spent(self, until: float | None = None) -> tuple[float, float]:
        """(seconds, GPU hours) of all attempts; see `spent`. `until`: when this one is seen to be alive."""
        names = [path.name for path in self.events.glob("*.json")]
        beat = self.run.beat()
        if until is not None:
            beat = replace(Heartbeat.now(self.number, 0, 0), time=until)
        return spent(names, lambda name: attempt_events.event(self.events / name), beat)

    @property
    def _reserve(self) -> Path:
        return self.events / ".reserve"

    def _end_killed(self) -> None:
        """Give earlier attempts that left no end event one, from the last heartbeat."""
        last = self.run.beat()
        ended = {path.name[:4] for path in self.events.glob("*.json") if END_NAME.match(path.name)}
        for path in self.events.glob("*-start.json"):
            start = attempt_events.event(path)
            if path.name[:4] not in ended and start:
                number, seen = start["attempt"], _seen(start, last)
                event = {"attempt": number, "time": seen, "outcome": "killed", "wall_s": seen - start["time"]}
                write_json(self.events / f"{path.name[:4]}-killed.json", event)


def result_of(
    config: RunConfig, run: RunDir, device: str, attempts: Attempts | None = None, until: float | None = None
) -> Result:
    """What `run` says once `attempts` have trained it until then, without evaluations.

    `attempts` None: it has weights of elsewhere.
    """
    from vocl.rundir.of_config import cell_of
    from vocl.rundir.provenance import code_digest

    seconds, gpu_hours = (attempts or Attempts(run)).spent(until)
    return Result(
        run_id=config.run_id,
        metrics={},
        evals={},
        cell_id=cell_of(config.content),
        seed=config.seed,
        steps=config.train.steps,
        attempts=attempts.number if attempts else 0,
        wall_s=round(seconds, 2),
        gpu_hours=round(gpu_hours, 4),
        device=device,
        code=code_digest(config.project),
    )


def spent(
    names: Iterable[str], read: Callable[[str], dict[str, Any] | None], beat: Heartbeat | None
) -> tuple[float, float]:
    """(seconds, GPU hours) of the attempts whose events have these names. One that has not ended, or was
    killed, counts up to its last heartbeat."""
    names = sorted(names)
    ends = {name[:4]: name for name in names if END_NAME.match(name)}
    wall_s = gpu_s = 0.0
    for name in names:
        if not name.endswith("-start.json"):
            continue
        start = read(name)  # where it is damaged, its end still says how long it took
        end = (read(ends[name[:4]]) if name[:4] in ends else None) or {}
        seconds = end.get("wall_s")
        if seconds is None:
            seconds = _seen(start, beat) - start["time"] if start else 0.0
        wall_s += max(0.0, seconds)
        if start and start["device"].startswith("cuda"):
            gpu_s += max(0.0, seconds) * start["world"]
    return wall_s, gpu_s / 3600


def _seen(start: dict[str, Any], beat: Heartbeat | None) -> float:
    """When an attempt was last seen alive; the heartbeat is of the same process, so of the same clock."""
    is_its_own = beat is not None and beat.attempt == start["attempt"]
    return max(beat.time, start["time"]) if beat is not None and is_its_own else start["time"]
