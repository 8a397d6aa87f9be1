"""The executions of a run, each with a start and an end event in files of their own."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

from vocl.files import finite, write_bytes, write_json
from vocl.rundir import events

RESERVE_BYTES = 16384  # given back when the disk is full, so that the record of it can be written
END = re.compile(r"^\d{4}-(done|stopped|failed|killed)\.json$")


class Attempts:
    """The executions of one run, each with a start and an end event in files of their own.

    One file per event: appends to a shared file from two hosts can tear. Rank 0 alone starts and
    ends attempts; another rank leaves a record only of its own failure.
    """

    def __init__(self, folder: Path) -> None:
        self.run, self.events = folder, folder / "events"
        self.began = time.time()
        numbers = [int(path.name.partition("-")[0]) for path in self.events.glob("[0-9]*-*.json")]
        self.number = max(numbers, default=0) + 1

    def start(self, step: int, environment: dict[str, Any]) -> None:
        """Record that this attempt starts at `step`; keeps some disk for the record of its end."""
        self._bury_killed()
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

    def spent(self) -> tuple[float, float]:
        """(seconds, GPU hours) of all attempts that have ended, this one included once it has.

        One that was killed counts up to its last heartbeat.
        """
        wall_s = gpu_s = 0.0
        for path in self.events.glob("*-start.json"):
            ends = [events.event(p) or {} for p in self._ends() if p.name[:4] == path.name[:4]]
            seconds = max((end.get("wall_s") or 0.0 for end in ends), default=0.0)
            wall_s += seconds
            start = events.event(path)
            gpu_s += seconds * (start["world"] if start and start["device"].startswith("cuda") else 0)
        return wall_s, gpu_s / 3600

    @property
    def _reserve(self) -> Path:
        return self.events / ".reserve"

    def _ends(self) -> list[Path]:
        return [p for p in self.events.glob("*.json") if END.match(p.name)]

    def _bury_killed(self) -> None:
        """Give earlier attempts that left no end event one, from the last heartbeat."""
        last = events.heartbeat(self.run) or {}
        ended = {path.name[:4] for path in self._ends()}
        for start in self.events.glob("*-start.json"):
            event = events.event(start)
            if start.name[:4] not in ended and event:
                number, began = event["attempt"], event["time"]
                seen = max(last["time"], began) if last.get("attempt") == number else began
                event = {"attempt": number, "time": seen, "outcome": "killed", "wall_s": seen - began}
                write_json(self.events / f"{start.name[:4]}-killed.json", event)
