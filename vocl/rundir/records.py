"""What the folder of a run says, for boards: each file is read once at most, when somebody asks for it."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from functools import cached_property
from typing import Any

from vocl.files import holds, is_number, parse_json, read_bytes
from vocl.rundir import attempt_events, attempts, claims, file_times
from vocl.rundir.attempt_events import Heartbeat
from vocl.rundir.claims import Claim
from vocl.rundir.result import Result
from vocl.rundir.run_dir import CHECKPOINTS, CONFIG, EVENTS, HEARTBEAT, JOBS, METRICS, RESULT, RunDir

PROBE, PROBE_S = "probe/", "probe_s"  # of the lines of probes: before EVALUATION/SCORE, and the time it took


class Records:
    """The records of `run`, whose folder need not exist."""

    def __init__(self, run: RunDir) -> None:
        self.run, self._place = run, str(run.path)
        self._events: dict[str, dict[str, Any] | None] = {}
        self._unread: list[str] = []

    @cached_property
    def names(self) -> frozenset[str]:
        """What lies in the folder."""
        return frozenset(self._listed())

    @cached_property
    def trouble(self) -> str:
        """Why what became of the run cannot be known: a folder of its records cannot be read; "" if none."""
        if self.is_done:
            return ""
        _ = self.events, self._saved, JOBS in self.names and self._listed(JOBS)
        return "; ".join(self._unread)

    @cached_property
    def is_done(self) -> bool:
        """Whether it is trained and evaluated (see `RunDir.is_done`)."""
        return self.result is not None or (self._has_result_file and self.run.is_done())

    @property
    def has_damaged_result(self) -> bool:
        """Whether it left a result that is none."""
        return not self.is_done and self._has_result_file

    @cached_property
    def result(self) -> Result | None:
        """result.json; None where there is none, or none that can be read."""
        return self.run.result_or_none()  # of done runs nothing else is read, not even what lies there

    @property
    def _has_result_file(self) -> bool:
        return RESULT in self.names

    @cached_property
    def damaged(self) -> list[str]:
        """Names of its records that are there and cannot be read; none are looked for once it is done."""
        if self.is_done:
            return []
        beat = [HEARTBEAT] if HEARTBEAT in self.names and self.beat is None else []
        events = [f"{EVENTS}/{name}" for name in self.events if self.event(name) is None]
        return [*(self.claim.damaged if self.claim else ()), *beat, *events]

    @cached_property
    def claim(self) -> Claim | None:
        """Whose it is."""
        return claims.newest(self.run) if JOBS in self.names and not self.trouble else None

    @cached_property
    def beat(self) -> Heartbeat | None:
        """The last heartbeat."""
        return self.run.beat() if HEARTBEAT in self.names else None

    @cached_property
    def events(self) -> list[str]:
        """Names of the records of its attempts, oldest first."""
        found = self._listed(EVENTS) if EVENTS in self.names else []
        return sorted(name for name in found if name[:4].isdigit() and name.endswith(".json"))

    @cached_property
    def end_name(self) -> str | None:
        """Name of the record of how the last attempt ended; None while it goes on, was killed, or where
        there was none."""
        if not self.events:
            return None
        last = [e for e in self.events if e[:4] == self.events[-1][:4] and not e.endswith("-start.json")]
        failed = [e for e in last if "-failed" in e]
        if len(failed) > 1:  # ranks: the first is the cause, the others lost their connection to it
            return min(failed, key=lambda e: file_times.written_at(self.run.events / e) or 0.0)
        return next(iter(failed), last[-1] if last else None)

    @cached_property
    def ended(self) -> dict[str, Any] | None:
        """That record; where it is damaged, what its name says."""
        if self.end_name is None:
            return None
        outcome = self.end_name[len("0001-") : -len(".json")].partition("-")[0]
        lost = {"time": 0.0, "outcome": outcome, "message": "its record cannot be read"}
        return self.event(self.end_name) or lost

    def ended_under(self, claim: Claim) -> bool:
        """Whether the record of how the last attempt ended was written since `claim` was made."""
        name = self.end_name
        return name is not None and not file_times.is_later(claim.path, self.run.events / name)

    @property
    def beat_is_older(self) -> bool:
        """Whether the last heartbeat is of before the present claim's job began."""
        start = self.claim.start_path if self.claim and self.claim.start else None
        return start is not None and file_times.is_later(start, self.run.beat_path)

    @cached_property
    def started(self) -> dict[str, Any] | None:
        """How the last attempt started: host, device, code, commit, ..."""
        names = [name for name in self.events if name.endswith("-start.json")]
        return self.event(names[-1]) if names else None

    @cached_property
    def saved_step(self) -> int | None:
        """Step of the newest checkpoint of a run that is not done: where it will go on."""
        has_some = CHECKPOINTS in self.names and not self.is_done
        return self.run.newest_step() if has_some else None

    @property
    def has_begun(self) -> bool:
        """Whether there is something to go on with or to explain."""
        return EVENTS in self.names or any(name[0] != "." for name in self._saved)

    @cached_property
    def _saved(self) -> list[str]:
        return self._listed(CHECKPOINTS) if CHECKPOINTS in self.names else []

    @property
    def history(self) -> list[dict[str, Any]]:
        """All lines of metrics.jsonl: the numbers of each report, oldest first."""
        found = []
        try:
            lines = read_bytes(f"{self._place}/{METRICS}").split(b"\n") if METRICS in self.names else []
        except (OSError, ValueError):
            lines = []
        for line in lines:
            with suppress(ValueError):  # the last one may be being written
                found.append(parse_json(line))
        steps = (report for report in found if holds(report, {"step": int}))
        return [{key: value for key, value in report.items() if is_number(value)} for report in steps]

    @cached_property
    def num_slots(self) -> int | None:
        """`model.num_slots` of its config, found without reading YAML; None where there is none."""
        try:
            config = read_bytes(f"{self._place}/{CONFIG}")
        except (OSError, ValueError):
            return None
        model = re.search(rb"^model:\n((?:[ ].*\n)+)", config, re.MULTILINE)
        number = model and re.search(rb"^  num_slots: (\d{1,9})$", model[1], re.MULTILINE)
        return int(number[1]) if number else None

    @cached_property
    def gpu_hours(self) -> float:
        """Of all of its attempts until now."""
        if self.is_done:
            return (self.result.gpu_hours if self.result else None) or 0.0
        return attempts.spent(self.events, self.event, self.beat)[1]

    @property
    def wall_s(self) -> float:
        """Of all of its attempts until now."""
        if self.is_done:
            return (self.result.wall_s if self.result else None) or 0.0
        return attempts.spent(self.events, self.event, self.beat)[0]

    @property
    def num_attempts(self) -> int:
        """How many there were."""
        if self.result is not None and self.result.attempts is not None:
            return self.result.attempts
        return int(self.events[-1][:4]) if self.events else 0

    @property
    def code(self) -> str | None:
        """Digest of the code of its last attempt."""
        if self.result is not None:
            return self.result.code
        said = self.started.get("code") if self.started else None
        return said if isinstance(said, str) else None

    @property
    def lost_gpu_hours(self) -> float:
        """Of its attempts that failed or were killed, whatever was saved in them."""
        return attempts.spent(self.lost_events, self.event, None)[1]

    @property
    def lost_events(self) -> list[str]:
        """Names of the records of these attempts."""
        ends = ("-failed.json", "-killed.json")
        lost = {name[:4] for name in self.events if name.endswith(ends)}
        return [name for name in self.events if name[:4] in lost]

    def event(self, name: str) -> dict[str, Any] | None:
        if name not in self._events:
            self._events[name] = attempt_events.event(f"{self._place}/{EVENTS}/{name}")
        return self._events[name]

    def _listed(self, name: str = "") -> list[str]:
        """What lies in the folder, or in a folder of it; nothing where there is none."""
        try:
            return os.listdir(f"{self._place}/{name}" if name else self._place)
        except FileNotFoundError:
            pass
        except OSError as error:
            self._unread.append(f"{name or 'its folder'} cannot be read: {error.strerror}")
        return []
