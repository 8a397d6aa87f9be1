"""The folder of a run: what each file in it is called, and who reads and writes it. Imports no torch.

    config.yaml       what was trained, complete: `RunDir.config`
    result.json       what a finished run says: `RunDir.result`, `vocl.rundir.result`
    heartbeat.json    the last sign of life of a training: `RunDir.beat`, `vocl.rundir.attempt_events`
    metrics.jsonl     a line per report while it trains: `vocl.tracking.track`
    log.txt           what its processes print
    events/           how its attempts started and ended: `vocl.rundir.attempts`
    jobs/             who may work on it: `vocl.rundir.claims`
    remarks.json      tags and a note of people's: `RunDir.remarks`
    lock              held by the process that works on it: `vocl.rundir.lock`
    checkpoints/      `vocl.rundir.checkpoint`
    rungs/            what its evaluations say before its end: `RunDir.rungs`, `vocl.rundir.result`
    eval/<eval_id>/   what its evaluations say: `vocl.evaluate.store`
    media/            pictures that a tracker shows: `vocl.tracking.media`; probe.png: `RunDir.probe_picture`
    wandb/            files of W&B's client, the lock of a mirror: `vocl.tracking.mirror_process`

docs/records.md describes the formats. `vocl.rundir.records` reads all of it at once, for boards.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vocl.errors import UserError
from vocl.files import Kinds, holds, open_plain, parse_json, read_bytes, record_or_none, write_json
from vocl.rundir import attempt_events, checkpoint_files, file_times, processes
from vocl.rundir.attempt_events import Heartbeat, ProbeScore
from vocl.rundir.checkpoint_files import CheckpointFile
from vocl.rundir.result import REPORT, RUNG, Result, Rung, which_of

if TYPE_CHECKING:  # boards read no config, and start in a fraction of a second
    from vocl.config.run_config import RunConfig
    from vocl.config.schema import Config

CONFIG, RESULT, HEARTBEAT = "config.yaml", "result.json", "heartbeat.json"
METRICS, LOG, LOCK = "metrics.jsonl", "log.txt", "lock"
EVENTS, JOBS, CHECKPOINTS, EVALUATIONS, WANDB = "events", "jobs", "checkpoints", "eval", "wandb"
ROWS = "rows.json"  # of an evaluation: a mapping per video
RUNGS, REMARKS = "rungs", "remarks.json"
REMARK: Kinds = {"tags": list, "note": str}
STALE_S = 60.0  # without a heartbeat; it comes every ten seconds


@dataclass(frozen=True)
class Remarks:
    """What people say of a run; no part of what it is."""

    tags: tuple[str, ...] = ()
    note: str = ""

    def __bool__(self) -> bool:
        return bool(self.tags or self.note)


UNREADABLE = Remarks(note=f"{REMARKS} cannot be read")


@dataclass(frozen=True, order=True)
class RunDir:
    """The run in the folder `path`, which need not exist."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def id(self) -> str:
        """The run's id, unless the folder is a copy by another name."""
        return self.path.name

    # -------------------------------------------------------------------------------- its files

    @property
    def config_path(self) -> Path:
        """What was trained."""
        return self.path / CONFIG

    @property
    def result_path(self) -> Path:
        """What the finished run says; its presence means "done", unless it is damaged."""
        return self.path / RESULT

    @property
    def beat_path(self) -> Path:
        """The last sign of life."""
        return self.path / HEARTBEAT

    @property
    def metrics_path(self) -> Path:
        """The reports of the training."""
        return self.path / METRICS

    @property
    def log_path(self) -> Path:
        """What the first rank's process prints."""
        return self.path / LOG

    def log_path_of(self, rank: int) -> Path:
        """What the process of `rank` prints."""
        return self.path / f"log-rank{rank}.txt" if rank else self.log_path

    @property
    def lock_path(self) -> Path:
        """Held by the process that works on the run."""
        return self.path / LOCK

    @property
    def events(self) -> Path:
        """The folder of the records of its attempts."""
        return self.path / EVENTS

    @property
    def jobs(self) -> Path:
        """The folder of its claims."""
        return self.path / JOBS

    @property
    def checkpoints(self) -> Path:
        """The folder of its checkpoints."""
        return self.path / CHECKPOINTS

    @property
    def evaluations(self) -> Path:
        """The folder with a folder per evaluation."""
        return self.path / EVALUATIONS

    def report_path(self, eval_id: str) -> str:
        """The record of an evaluation."""
        return f"{self.path}/{EVALUATIONS}/{eval_id}/report.json"

    def rows_path(self, eval_id: str) -> str:
        """What an evaluation says of each video."""
        return f"{self.path}/{EVALUATIONS}/{eval_id}/{ROWS}"

    @property
    def remarks_path(self) -> str:
        """Tags and a note of people's."""
        return f"{self.path}/{REMARKS}"

    @property
    def media(self) -> Path:
        """The folder of the pictures that a tracker shows."""
        return self.path / "media"

    @property
    def probe_picture(self) -> Path:
        """The picture of the newest probe."""
        return self.media / "probe.png"

    @property
    def wandb(self) -> Path:
        """The folder of W&B's client."""
        return self.path / WANDB

    # -------------------------------------------------------------------------------- its config

    def config(self) -> RunConfig:
        """The config, in today's keys and checked. Raises `UserError`."""
        from vocl.rundir import saved_config

        return saved_config.read(self.config_path)

    def config_unchecked(self) -> Config:
        """The config in today's keys, not checked; as it stands where that is damaged."""
        from vocl.rundir import saved_config

        return saved_config.read_unchecked(self.config_path)

    def config_as_saved(self) -> Config:
        """The config as it stands in its file; empty where there is none that can be read."""
        from vocl.rundir import saved_config

        return saved_config.read_as_saved(self.config_path)

    def has_config(self) -> bool:
        """Whether this is the folder of a run at all."""
        return self.config_path.is_file()

    def write_config(self, config: Config) -> None:
        """Write the config, complete: a job composes nothing."""
        from vocl.rundir import saved_config

        saved_config.write(self.config_path, config)

    # -------------------------------------------------------------------------------- its result

    def result(self, seed: int | None = None) -> Result:
        """The result of the run, which has `seed` if that is known here. Raises `UserError` when it is
        damaged or another run's, `OSError` when it cannot be read, as where there is none."""
        wrong = "damaged"
        with suppress(ValueError, IsADirectoryError):
            found = Result.of_json(parse_json(read_bytes(f"{self.path}/{RESULT}")))
            if found is not None and not (wrong := found.is_not_of(self.id, seed)):
                return found
        raise UserError(f"{self.result_path}: {wrong}; to evaluate the run again: vocl retry {self.id}")

    def result_or_none(self) -> Result | None:
        """The result; None where there is none that can be read."""
        try:
            return self.result()
        except (UserError, OSError):
            return None

    def is_done(self) -> bool:
        """Whether the run has been trained and evaluated: it has a result that is whole."""
        try:
            self.result()
        except (UserError, FileNotFoundError, NotADirectoryError):
            return False
        except OSError:  # it is there, and nothing says that it is wrong: nobody is to train the run again
            return True
        return True

    def has_damaged_result(self) -> bool:
        """Whether a result lies there that is none."""
        try:
            self.result()
        except UserError:
            return True
        except OSError:
            pass
        return False

    def has_result_file(self) -> bool:
        """Whether a result lies there, be it whole or damaged."""
        return self.result_path.is_file()

    def write_result(self, result: Result) -> None:
        """Write the result: from now on the run is done."""
        write_json(self.result_path, result.to_json())

    def set_aside_damaged_result(self) -> None:
        """Rename a damaged result to result.json.damaged; only for whoever has just claimed the run."""
        if self.has_damaged_result():
            with suppress(OSError):  # then it is replaced once there is another
                self.result_path.replace(self.result_path.with_name(f"{RESULT}.damaged"))

    def report(self, eval_id: str) -> dict[str, Any] | None:
        """The record of an evaluation: its entry in the result, with its settings (`eval`, in today's
        keys); None without one."""
        found = record_or_none(self.report_path(eval_id), REPORT)
        return found and found | {"eval": _of_today(json.dumps(found["eval"]))}

    def reports(self, evals: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """The records of the evaluations `evals` of a result, by their keys there; those of the trained
        model that are there."""
        found = {key: self.report(entry["eval_id"]) for key, entry in evals.items()}
        return {key: each for key, each in found.items() if each and not which_of(each.get("checkpoint"))}

    def rows(self, eval_id: str) -> list[dict[str, Any]]:
        """What an evaluation says of each video; nothing where that is not there, or damaged."""
        try:
            found = parse_json(read_bytes(self.rows_path(eval_id)))
        except (OSError, ValueError):
            return []
        rows = found if isinstance(found, list) else []
        return [row for row in rows if isinstance(row, dict) and isinstance(row.get("video"), str)]

    # -------------------------------------------------------------------------------- its rungs

    def rungs(self) -> list[Rung]:
        """What it said where `runtime.stop_at` had it scored, by step; those that can be read."""
        paths = sorted((self.path / RUNGS).glob("[0-9]*.json"))
        found = (Rung.of_json(record_or_none(path, RUNG)) for path in paths)
        return [rung for rung in found if rung is not None]

    def write_rung(self, rung: Rung) -> None:
        """Write what it said after `rung.step` steps."""
        write_json(self.path / RUNGS / f"{rung.step:09d}.json", asdict(rung))

    def is_paused(self) -> bool:
        """Whether it has come as far as the `runtime.stop_at` of its config says."""
        runtime = self.config_as_saved().get("runtime")
        asked = runtime.get("stop_at") if isinstance(runtime, Mapping) else None
        return isinstance(asked, int) and any(rung.step >= asked for rung in self.rungs())

    # -------------------------------------------------------------------------------- its remarks

    def remarks(self) -> Remarks:
        """Its tags and note; `UNREADABLE` where they are there and cannot be read: a reader must know."""
        try:
            found = parse_json(read_bytes(self.remarks_path))
        except (FileNotFoundError, NotADirectoryError):
            return Remarks()
        except (OSError, ValueError):
            return UNREADABLE
        if not holds(found, REMARK) or not all(isinstance(tag, str) for tag in found["tags"]):
            return UNREADABLE
        return Remarks(tuple(found["tags"]), found["note"])

    def change_remarks(self, change: Callable[[Remarks], Remarks]) -> Remarks:
        """Change its tags and note, one process at a time; returns what they are then.

        UserError where those that are there cannot be read: they would be lost.
        """
        with open_plain(self.path / f".{REMARKS}.lock", "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            before = self.remarks()
            if before == UNREADABLE:
                raise UserError(f"{self.remarks_path}: cannot be read; restore or remove it")
            after = change(before)
            if after != before:
                write_json(self.path / REMARKS, {"tags": list(after.tags), "note": after.note})
        return after

    # -------------------------------------------------------------------------------- its life

    def beat(self) -> Heartbeat | None:
        """The last sign of life; None where there is none that can be read."""
        return Heartbeat.of_json(record_or_none(f"{self.path}/{HEARTBEAT}", attempt_events.HEARTBEAT))

    def write_beat(self, attempt: int, step: int, steps: int, probe: ProbeScore | None = None) -> None:
        """Write a heartbeat of the training in this process, whose newest probe is `probe`."""
        write_json(self.beat_path, asdict(Heartbeat.now(attempt, step, steps, probe)))

    def is_alive(self, beat: Heartbeat | None, stale_s: float = STALE_S) -> bool:
        """Whether the process is alive that wrote the heartbeat `beat`, as far as this machine can tell: by
        the process itself if it is of this machine, else by the date of the file."""
        if beat is None:
            return False
        if beat.host == os.uname().nodename:
            return processes.start_ticks(beat.pid) is not None and beat.age_s() < 10 * stale_s
        return file_times.is_recent(self.beat_path, stale_s)

    def starts(self) -> list[dict[str, Any]]:
        """How its attempts started, oldest first; those that can be read."""
        found = [attempt_events.event(path) for path in sorted(self.events.glob("*-start.json"))]
        return [start for start in found if start is not None]

    # -------------------------------------------------------------------------------- its weights

    def checkpoint_files(self) -> list[CheckpointFile]:
        """Its checkpoints by step, newest first, unchecked."""
        return checkpoint_files.checkpoint_files(self.checkpoints)

    def newest_step(self) -> int | None:
        """Step of its newest checkpoint, unchecked; None without one."""
        return next((file.step for file in self.checkpoint_files()), None)


@lru_cache(maxsize=256)  # the runs of a table are scored alike; nobody changes what is returned
def _of_today(settings: str) -> dict[str, Any]:
    """The settings of an evaluation, as JSON, in today's keys."""
    from vocl.config.migrate import migrate

    return migrate({"eval": {"": json.loads(settings)}})["eval"][""]
