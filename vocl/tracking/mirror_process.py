"""Shows one run's records on a tracker: python -m vocl.tracking.mirror_process FOLDER MODE PROJECT ENTITY
CHECKPOINTS TRAINING

MODE: offline or online (W&B), trackio. The tracker is a view: this reads `metrics.jsonl`, `media` and
`checkpoints`, and never writes them. CHECKPOINTS (0 or 1): whether the last checkpoint is kept there.

It ends when the process TRAINING says so or is gone. With 0 it shows what there is, seals it and ends.
Imports no torch.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from vocl.config.safe_yaml import read_saved
from vocl.config.wandb_names import artifact_name
from vocl.files import make_folder, open_plain
from vocl.rundir.records import PROBE_S
from vocl.rundir.results_root import root_of
from vocl.rundir.run_dir import RunDir
from vocl.stop import ignore_signals
from vocl.tracking import media, shown
from vocl.tracking.client import Client, Ending, Known, Row
from vocl.tracking.mirror import CHECKPOINT_S, END_MESSAGE, command, environment
from vocl.tracking.trackio_client import TrackioClient
from vocl.tracking.wandb_client import SealedWandbClient

POLL_S = 1.0
LOCK_S = 45.0  # how long to wait for the mirror of an attempt that was killed to end
LAST_S = 30.0  # how long this process may outlive the training's


def main(arguments: list[str]) -> int:
    """The process; returns 0, or 1 after saying in one line what is wrong."""
    # Meant for the training, but SLURM sends them to all. The client's own process leaves at SIGTERM
    # nevertheless; then nothing is sealed, and the next attempt writes the rows again.
    ignore_signals()
    voice = os.dup(1)  # the client prints; only our lines may come out
    os.dup2(2, 1)
    folder, mode, project, entity, checkpoints, training = arguments
    run = RunDir(Path(folder))
    last_s = LAST_S + CHECKPOINT_S * int(checkpoints)
    try:
        client = client_of(run, mode, project, entity or None, last_s)
        Shown(run, client, bool(int(checkpoints)), last_s).follow(int(training))
        return 0
    except _NotOpened as error:
        if mode == "online" and int(training):
            say(voice, error.cause, "kept offline: ")
            again = command(run, "offline", project, entity, bool(int(checkpoints)), int(training))
            _start_again(again, voice)
        say(voice, error.cause)
        return 1
    except BaseException as error:
        say(voice, error)
        return 1


def client_of(run: RunDir, mode: str, project: str, entity: str | None, last_s: float) -> Client:
    """The client that `mode` says."""
    if mode == "trackio":
        return TrackioClient(project, root_of(run).trackio)
    return SealedWandbClient(run, "online" if mode == "online" else "offline", project, entity, last_s)


class _NotOpened(Exception):
    """The tracker did not take the run."""

    def __init__(self, cause: Exception) -> None:
        self.cause = cause


class Shown:
    """The run `run` as `client` shows it."""

    def __init__(self, run: RunDir, client: Client, checkpoints: bool, last_s: float) -> None:
        self.run, self.client, self.checkpoints, self.last_s = run, client, checkpoints, last_s
        self.config = read_saved(run.config_path)
        self.steps = self.config["train"]["steps"]
        self.known, self.offset, self.last, self.is_complete = Known(), 0, -1, False
        self.probed: Row = {}  # of a probe, held back: the next report may be of the same step

    def follow(self, training: int) -> None:
        """Show the run until the process `training` has ended; 0: as it is now."""
        if training:
            threading.Thread(target=_die_after, args=(training, self.last_s), daemon=True).start()
        make_folder(self.run.wandb)
        with open_plain(self.run.wandb / "lock") as lock:
            _take(lock)
            try:
                self.known = self.client.open(shown.opened(self.run, self.config))
            except Exception as error:
                raise _NotOpened(error) from error
            self.last = self.known.step
            while training and not self._ended(POLL_S) and os.getppid() == training:
                self._show_new()
            if self.is_complete or not training:  # of one that was killed the last rows may not hold
                self._show_new()
                self._flush()
            self.client.close(self._ending(once=not training))

    def _ended(self, seconds: float) -> bool:
        """Whether, within some seconds, the training says that it ends, or vanishes."""
        if not select.select([0], [], [], seconds)[0]:
            return False
        said = os.read(0, len(END_MESSAGE))
        self.is_complete = said == END_MESSAGE
        return True

    def _show_new(self) -> None:
        """Show what has come since: rows, and after the last of them pictures and the last checkpoint."""
        self._log()
        pictures = [] if self.known.pictures or self.known.step >= self.steps else media.read(self.run.media)
        if pictures:
            self.client.show(self.steps, pictures)
            self.known = Known(step=self.known.step, pictures=True, files=self.known.files)
        self._keep_checkpoint()

    def _log(self) -> None:
        """Show the lines that have come since."""
        path = self.run.metrics_path
        if not path.is_file():
            return
        with path.open("rb") as lines:
            lines.seek(self.offset)
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                self.offset += len(line)
                self._show(json.loads(line))

    def _show(self, row: Row) -> None:
        """Show a row, or hold that of a probe back until the next is known: a tracker takes a step once."""
        if row["step"] <= self.last:
            return
        if self.probed and self.probed["step"] < row["step"]:
            self._flush()
        if PROBE_S in row:
            self.probed = row
            return
        self._pass_on(self.probed | row)

    def _flush(self) -> None:
        """Show what is held back."""
        if self.probed:
            self._pass_on(self.probed)

    def _pass_on(self, row: Row) -> None:
        pictures = media.of_probe(self.run) if self.probed else []
        self.probed, self.last = {}, row["step"]
        self.client.log(row["step"], row, pictures)

    def _keep_checkpoint(self) -> None:
        """Keep the checkpoint after the last step, if asked, once."""
        newest = next(iter(self.run.checkpoint_files()), None) if self.checkpoints else None
        if newest is None or newest.step < self.steps or newest.path.name in self.known.files:
            return
        self.client.keep(artifact_name(f"checkpoint-{self.run.id}"), "model", [newest.path])
        files = self.known.files | {newest.path.name}
        self.known = Known(step=self.known.step, pictures=self.known.pictures, files=files)

    def _ending(self, once: bool) -> Ending:
        """How the run stands; `once`: nobody is training it."""
        done = self.run.result_or_none()
        last = min(self.last, self.steps - 1)  # pictures come after
        record: dict[str, Any] = {"evals": None, "scores": None}
        if done:
            record = {"evals": list(done.evals), "scores": shown.digest(done)}
        return Ending(
            step=last,
            outcome=shown.outcome(self.run),
            is_done=done is not None,
            is_complete=once or (self.is_complete and last < (self.run.newest_step() or 0)),
            scores=shown.scores(done) if done else {},
            record=record,
        )


def _start_again(again: list[str], voice: int) -> NoReturn:
    """As a fresh program in this process: a client that has failed to open a run holds its id."""
    os.dup2(voice, 1)
    os.execve(again[0], again, environment())


def _take(lock: Any) -> None:
    until = time.monotonic() + LOCK_S
    while True:
        try:
            return fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise RuntimeError("another mirror of this run is at work") from None
            time.sleep(0.2)


def _die_after(training: int, last_s: float) -> None:
    """No client may keep this process for ever."""
    while os.getppid() == training:
        time.sleep(POLL_S)
    time.sleep(last_s)
    os._exit(1)


def say(voice: int, error: BaseException, before: str = "") -> None:
    """Tell who listens, if anybody still does, in one line."""
    with suppress(OSError):
        text = " ".join(f"{before}{type(error).__name__}: {error}".split())
        os.write(voice, f"{text[:300]}\n".encode())


if __name__ == "__main__":
    code = main(sys.argv[1:])
    os._exit(code)  # the client's exit hooks may wait for the network
