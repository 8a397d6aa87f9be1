"""Daemons as child processes: start one, wait until it answers, find and end all that belong to a folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

MARK = "VOCL_TEST_CLUSTER"
PROGRAMS = ("munged", "mariadbd", "mariadb-install-db", "slurmdbd", "slurmctld", "slurmd", "sbatch", "sacct")
PACKAGES = "slurm-wlm slurmdbd mariadb-server munge"
PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"
# Variables of a surrounding job or of a user's SLURM settings would steer the commands elsewhere.
FOREIGN = (
    "SLURM",
    "SBATCH_",
    "SALLOC_",
    "SRUN_",
    "SQUEUE_",
    "SACCT_",
    "SCANCEL_",
    "SINFO_",
    "SCONTROL_",
    "MUNGE",
)


class ClusterError(Exception):
    """The cluster did not start, or a wait ran out; the message ends with the tail of the log concerned."""


def why_not() -> str | None:
    """The one reason why a SLURM cannot be started on this machine, or None."""
    if sys.platform != "linux":
        return f"a SLURM of the tests' own needs Linux, this is {sys.platform}"
    absent = [name for name in PROGRAMS if not shutil.which(name, path=PATH)]
    if absent:
        return f"a SLURM of the tests' own needs `apt-get install {PACKAGES}`: no {', '.join(absent)}"
    if os.geteuid() != 0:
        return "a SLURM of the tests' own needs root (slurmd runs jobs as their users)"
    return None


def clean_environment() -> dict[str, str]:
    """This process's variables without any that name a SLURM."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN)}
    return kept | {"PATH": PATH}


class Daemons:
    """The processes of one cluster folder. Each is a child in a session of its own, logging to ``log/``."""

    def __init__(self, folder: Path, name: str):
        self.folder, self.name = folder, name
        self._children: dict[str, subprocess.Popen] = {}

    def start(self, *command: str | Path) -> None:
        """Start a program in the foreground mode given by its arguments; its base name is its key."""
        program = Path(command[0]).name
        environment = clean_environment() | {
            MARK: str(self.folder),
            "SLURM_CONF": f"{self.folder}/slurm.conf",
        }
        with open(self.log(program), "ab") as log:
            self._children[program] = subprocess.Popen(
                [str(part) for part in command],
                env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=self.folder, start_new_session=True,
            )  # fmt: skip

    def stop(self, program: str, seconds: float = 120) -> None:
        """SIGTERM, so that the daemon saves its state; SIGKILL when it does not end."""
        child = self._children.pop(program)
        child.terminate()
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()

    def wait_for(self, program: str, ready: Callable[[], bool], seconds: float = 180) -> None:
        """Until ``ready``; a daemon that ends or does not get there raises with the tail of its log."""
        deadline = time.monotonic() + seconds
        while not ready():
            child = self._children.get(program)
            if child is not None and child.poll() is not None:
                raise ClusterError(f"{program} ended with {child.returncode}{self.tail(program)}")
            if time.monotonic() > deadline:
                raise ClusterError(f"{program} did not answer within {seconds:.0f} s{self.tail(program)}")
            time.sleep(0.1)

    def log(self, program: str) -> Path:
        """Where a daemon writes."""
        return self.folder / "log" / f"{program}.log"

    def tail(self, program: str, count: int = 15) -> str:
        """The last lines of a daemon's log, for a message."""
        try:
            lines = self.log(program).read_text(errors="replace").splitlines()[-count:]
        except OSError:
            lines = ["(no log)"]
        return f"; end of {self.log(program)}:\n" + "\n".join(f"  {line}" for line in lines)

    def kill_all(self, seconds: float = 60) -> None:
        """Daemons, job steps and the processes of jobs: ended at once, since nothing of them is kept."""
        deadline = time.monotonic() + seconds
        unseen = 0
        while unseen < 2:  # once more, for one that was just being born
            left = owned(self.folder, self.name)
            unseen = 0 if left else unseen + 1
            if time.monotonic() > deadline:
                raise ClusterError(f"processes {sorted(left)} of {self.folder} do not end")
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for child in self._children.values():
                child.poll()
            time.sleep(0.05)
        self._children.clear()


def owned(folder: Path, name: str) -> set[int]:
    """Living processes of the cluster: daemons and job steps, jobs by its name, and whatever these began."""
    marks = {f"{MARK}={folder}".encode(), f"SLURM_CLUSTER_NAME={name}".encode()}
    # slurmd gives its job steps no other variable; a shell that uses the cluster has it as well.
    step = f"SLURM_CONF={folder}/slurm.conf".encode()
    parents: dict[int, int] = {}
    found: set[int] = set()
    for pid, program, state, parent, variables in _processes():
        if state != "Z":
            parents[pid] = parent
            found |= (
                {pid}
                if variables & marks or (program.startswith("slurmstepd") and step in variables)
                else set()
            )
    while more := {pid for pid, parent in parents.items() if parent in found and pid not in found}:
        found |= more
    return found - {os.getpid()}


def _processes() -> Iterator[tuple[int, str, str, int, set[bytes]]]:
    """Of every process: number, program, state, parent, variables at its start (none if not to be read)."""
    for entry in filter(str.isdigit, os.listdir("/proc")):
        program, variables = "", set()
        try:
            state, parent = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()[:2]
            with contextlib.suppress(PermissionError):
                program = Path("/proc", entry, "exe").readlink().name
                variables = set(Path("/proc", entry, "environ").read_bytes().split(b"\0"))
        except OSError:  # gone, or a thread of the kernel
            continue
        yield int(entry), program, state, int(parent), variables
