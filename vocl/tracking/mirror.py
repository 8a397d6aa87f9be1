"""The training's end of the mirror on W&B or trackio: starts it, asks it to finish, never waits for long.

The mirror itself (`vocl.tracking.mirror_process`) is another process that reads the run's folder. Nothing
goes from the loop to it, so no client, network or disk of a tracker can slow a step, draw a random number,
take a signal handler or raise into the training. What it has to say comes as one line of its log.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from vocl.ops.narrow import given
from vocl.rundir.run_dir import RunDir
from vocl.stop import shielded

logger = logging.getLogger(__name__)
REPOSITORY = Path(__file__).resolve().parents[2]
FLUSH_S = 12.0  # how long the end of a training waits for it,
CHECKPOINT_S = 120.0  # and how much longer where a checkpoint is to be uploaded
END_MESSAGE = b"end\n"  # what the training says to it when its records are complete
# Of the user's W&B settings only those on where and as whom; the others could name another run.
PLACES = ("IDENTITY_TOKEN_FILE", "CONFIG_DIR", "CACHE_DIR")
KEPT = ("API_KEY", "BASE_URL", "INSECURE_DISABLE_SSL", *PLACES)
# Of those of trackio where and how its files are written: they stay on this machine.
OF_TRACKIO = ("TRACKIO_DIR", "TRACKIO_STORAGE_MODE", "TRACKIO_SQLITE_JOURNAL_MODE")
FOREIGN = ("WANDB_", "TRACKIO_", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


class Mirror:
    """Shows `run` on a tracker: `mode` offline or online (W&B), or trackio, under `project` of `entity`
    (None: the account's own); `checkpoints`: the last one too. Started by `start`; every method returns
    at once, but `close`."""

    def __init__(
        self, run: RunDir, mode: str, project: str, entity: str | None, checkpoints: bool = False
    ) -> None:
        self.run, self.mode = run, mode
        self.checkpoints = checkpoints
        self.command = command(run, mode, project, entity, checkpoints, os.getpid())
        self.process: subprocess.Popen[bytes] | None = None
        self.said, self.warned = b"", False

    def start(self) -> None:
        """Start the process; call when the folder tells what is true now."""
        try:
            with shielded():
                self.process = subprocess.Popen(
                    self.command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env=environment(),
                    cwd=REPOSITORY,
                    start_new_session=True,  # a terminal's Ctrl-C is for the training
                )
            os.set_blocking(given(self.process.stdin).fileno(), False)
            os.set_blocking(given(self.process.stdout).fileno(), False)
        except OSError as error:
            self._warn(f"cannot be started: {error}")

    def check(self) -> None:
        """Pass on what it complains of, once."""
        if self.process is None or self.warned:
            return
        with suppress(OSError):
            self.said += os.read(given(self.process.stdout).fileno(), 4096)
        if b"\n" in self.said:
            self._warn(self.said.partition(b"\n")[0].decode(errors="replace"))
        elif self.process.poll():
            self._warn(f"its process ended with {self.process.returncode}")

    def close(self) -> None:
        """Let it finish for some seconds, then end it; `vocl sync` brings what it left out.

        Longer where the last checkpoint is to go with a run that is done: one that is stopped must save.
        """
        if self.process is None:
            return
        flush_s = FLUSH_S + CHECKPOINT_S * (self.checkpoints and self.run.is_done())
        with suppress(OSError):
            os.write(given(self.process.stdin).fileno(), END_MESSAGE)
        try:
            self.process.wait(flush_s)
            self.check()
        except subprocess.TimeoutExpired:
            self.check()
            self._warn(f"not finished after {flush_s:g} s")
        with suppress(OSError):
            os.killpg(self.process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(1)
        given(self.process.stdin).close()
        given(self.process.stdout).close()
        self.process = None

    def _warn(self, reason: str) -> None:
        if not self.warned:
            tracker, run = "trackio" if self.mode == "trackio" else "W&B", self.run.id
            told = "%s: %s; the training is not affected; later: vocl sync %s"
            logger.warning(told, tracker, reason, run)
        self.warned = True


def missing(mode: str) -> list[str]:
    """What is not installed here for `mode`, in a line."""
    if mode == "trackio" and importlib.util.find_spec("trackio") is None:
        return ["runtime.tracking=trackio: not installed here; pip install 'vocl[trackio]'"]
    return []


def command(
    run: RunDir, mode: str, project: str, entity: str | None, checkpoints: bool, training: int = 0
) -> list[str]:
    """The command that mirrors `run` while the process `training` is alive, or once (0)."""
    arguments = [str(run.path.resolve()), mode, project, entity or "", str(int(checkpoints)), str(training)]
    return [sys.executable, "-m", "vocl.tracking.mirror_process", *arguments]


def environment() -> dict[str, str]:
    """The environment of a process of a tracker: the same code as here, and the user's account.

    The process is to work in `REPOSITORY`: W&B's client believes the file wandb/settings of its working
    folder, and in a run's folder that may be a colleague's, who has the key sent elsewhere.
    """
    kept = {*(f"WANDB_{name}" for name in KEPT), *OF_TRACKIO}
    ours = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN) or k in kept}
    places = {*(f"WANDB_{name}" for name in PLACES), "TRACKIO_DIR"} & ours.keys()
    ours |= {name: os.path.abspath(os.path.expanduser(ours[name])) for name in places}
    paths = [str(REPOSITORY), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    paths = [os.path.abspath(path) for path in paths]
    ours |= {"PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1", "HF_HUB_OFFLINE": "1"}
    # folders of W&B's client are named by local time, and must sort across hosts and seasons
    return ours | {"TZ": "UTC", "WANDB_ERROR_REPORTING": "false"}
