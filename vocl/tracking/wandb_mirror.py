"""The training's end of the W&B mirror: starts it, asks it to finish, and never waits for long.

The mirror itself (`vocl.tracking.wandb_process`) is another process that reads the run's folder. Nothing
goes from the loop to it, so no client, network or disk of W&B can slow a step, draw a random number, take
a signal handler or raise into the training. What it has to say comes as one line of its log.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from vocl.ops.narrow import given
from vocl.rundir.run_dir import RunDir
from vocl.stop import shielded

logger = logging.getLogger(__name__)
REPOSITORY = Path(__file__).resolve().parents[2]
FLUSH_S = 12.0  # how long the end of a training waits for it
END_MESSAGE = b"end\n"  # what the training says to it when its records are complete
# Of the user's W&B settings only those on where and as whom; the others could name another run.
PLACES = ("IDENTITY_TOKEN_FILE", "CONFIG_DIR", "CACHE_DIR")
KEPT = ("API_KEY", "BASE_URL", "INSECURE_DISABLE_SSL", *PLACES)


class Mirror:
    """Shows `run` on W&B: `mode` offline or online, under `project` of `entity`
    (None: the account's own). Started by `start`; every method returns at once, but `close`."""

    def __init__(self, run: RunDir, mode: str, project: str, entity: str | None) -> None:
        self.run, self.mode = run, mode
        self.command = command(run, mode, project, entity, os.getpid())
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
        """Let it finish for `FLUSH_S` seconds, then end it; `vocl sync` brings what it left out."""
        if self.process is None:
            return
        with suppress(OSError):
            os.write(given(self.process.stdin).fileno(), END_MESSAGE)
        try:
            self.process.wait(FLUSH_S)
            self.check()
        except subprocess.TimeoutExpired:
            self.check()
            self._warn(f"not finished after {FLUSH_S:g} s")
        with suppress(OSError):
            os.killpg(self.process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(1)
        given(self.process.stdin).close()
        given(self.process.stdout).close()
        self.process = None

    def _warn(self, reason: str) -> None:
        if not self.warned:
            run = self.run.id
            logger.warning("W&B: %s; the training is not affected; later: vocl sync %s", reason, run)
        self.warned = True


def command(run: RunDir, mode: str, project: str, entity: str | None, training: int = 0) -> list[str]:
    """The command that mirrors `run` while the process `training` is alive, or once (0)."""
    arguments = [str(run.path.resolve()), mode, project, entity or "", str(training)]
    return [sys.executable, "-m", "vocl.tracking.wandb_process", *arguments]


def environment() -> dict[str, str]:
    """The environment of a process of W&B: the same code as here, and the user's account.

    The process is to work in `REPOSITORY`: the client believes the file wandb/settings of its working
    folder, and in a run's folder that may be a colleague's, who has the key sent elsewhere.
    """
    kept = {f"WANDB_{name}" for name in KEPT}
    ours = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_") or k in kept}
    places = {f"WANDB_{name}" for name in PLACES} & ours.keys()
    ours |= {name: os.path.abspath(os.path.expanduser(ours[name])) for name in places}
    paths = [str(REPOSITORY), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    paths = [os.path.abspath(path) for path in paths]
    ours |= {"PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1"}
    # its folders are named by local time, and must sort across hosts and seasons
    return ours | {"TZ": "UTC", "WANDB_ERROR_REPORTING": "false"}


def wait_for_second() -> None:
    """Sleep into the next second: the client names its folders by it."""
    time.sleep(1.001 - time.time() % 1)
