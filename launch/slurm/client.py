"""Questions to SLURM and orders for it, each with a time limit; submission is in ``launch.slurm.sbatch``."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

TIMEOUT_S = 60.0
CLOCKS_S = 86400.0  # by which a submitter's clock may be ahead of accounting's
ACTIVE = (
    "RUNNING",
    "COMPLETING",
    "CONFIGURING",
    "SUSPENDED",
    "STOPPED",
    "SIGNALING",
    "STAGE_OUT",
    "RESIZING",
)
# not PREEMPTED: a job that is requeued goes from COMPLETING to PENDING, only one that is not stays there
PENDING = ("PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD")
# Before an underscore: whose options stand in the environment. A surrounding job or a user set them for
# something else; they would hide jobs, pick others, or change what is asked for.
OPTIONS_OF = (
    *("SLURM", "SALLOC", "SBATCH", "SRUN", "SATTACH", "SBCAST", "SCRONTAB", "SUBMITIT"),
    *("SQUEUE", "SACCT", "SACCTMGR", "SCANCEL", "SCONTROL", "SINFO", "SPRIO", "SREPORT", "SSHARE", "SSTAT"),
)
KEPT = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT")  # which SLURM there is, and who asks it
WHOLE = {"SLURM_BITSTR_LEN": "0"}  # else lists of array indices are cut to 64 characters
# All refusals of SLURM's have one exit code. Only these words say that there is no such job: any others,
# also those of a later version, leave it open.
NO_JOB = "Invalid job id"  # SLURM's error 2017; scontrol exits with 1 whatever is wrong
SPAN = re.compile(r"(\d+)(?:-(\d+)(?::(\d+))?)?")  # of array indices


class SlurmError(Exception):
    """SLURM did not answer, or refused."""


@dataclass(frozen=True)
class QueuedJob:
    """An element of an array that the controller knows."""

    name: str
    job: str  # id of the array
    index: int
    state: str
    reason: str
    node: str
    alone: bool = False  # no array: a submission of one element

    @property
    def id(self) -> str:
        """By which SLURM's commands know it."""
        return self.job if self.alone else f"{self.job}_{self.index}"

    @property
    def is_running(self) -> bool:
        """Whether it holds, or is about to hold or give back, an allocation."""
        return self.state in ACTIVE

    @property
    def is_live(self) -> bool:
        """Whether it runs or may run yet."""
        return self.is_running or self.state in PENDING


@dataclass(frozen=True)
class Controller:
    """What SLURM's controller says of itself."""

    cluster: str  # name@host: two clusters may have been given one name
    max_array_size: int  # elements of an array at most; 1 also where arrays are off: a job alone is none
    hides_jobs: bool  # of other users (PrivateData)


@dataclass(frozen=True)
class EndedJob:
    """What accounting says of an element's last execution."""

    state: str  # COMPLETED, FAILED, TIMEOUT, OUT_OF_MEMORY, NODE_FAIL, PREEMPTED, CANCELLED, ...
    exit_code: str
    node: str

    @property
    def is_live(self) -> bool:
        """Whether that execution had not ended when accounting last heard of it."""
        return self.state in (*ACTIVE, *PENDING)


def run(*command: str, timeout: float = TIMEOUT_S) -> subprocess.CompletedProcess[str]:
    """A SLURM command, with whatever exit code; `SlurmError` where it does not start or does not end."""
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            env=clean_environment(),
        )
    except FileNotFoundError:
        raise SlurmError(f"{command[0]}: not found on this machine") from None
    except OSError as error:
        raise SlurmError(f"{command[0]}: cannot be started: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{command[0]}: no answer within {timeout:.0f} s") from None


def ask(*command: str, timeout: float = TIMEOUT_S) -> str:
    """Standard output of a SLURM command; raises `SlurmError` in one line."""
    done = run(*command, timeout=timeout)
    if done.returncode != 0:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        line = lines[-1] if lines else f"exit code {done.returncode}"
        raise SlurmError(f"{command[0]}: {line.removeprefix(f'{command[0]}: ')}")
    return done.stdout


@contextmanager
def announced(after_s: float = 5.0) -> Iterator[None]:
    """Within the block, say so once if SLURM keeps us waiting."""
    words = "waiting for SLURM to answer"
    timer = threading.Timer(after_s, print, (words,), {"file": sys.stderr, "flush": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def clean_environment() -> dict[str, str]:
    """This process's environment for SLURM's commands and submitit: without anybody's options for them."""
    prefixes = tuple(f"{name}_" for name in OPTIONS_OF)
    kept = {key: value for key, value in os.environ.items() if key in KEPT or not key.startswith(prefixes)}
    return kept | WHOLE


def controller(timeout_s: float = TIMEOUT_S) -> Controller:
    """Which cluster this machine's commands ask, and what it allows."""
    text = ask("scontrol", "show", "config", timeout=timeout_s)
    found: dict[str, str] = dict(re.findall(r"^(\S+)\s*=\s*(.*?)\s*$", text, re.MULTILINE))
    host = found.get("SlurmctldHost[0]", found.get("ControlMachine", "")).partition("(")[0]
    hidden = found.get("PrivateData", "").split(",")
    try:
        return Controller(
            f"{found['ClusterName']}@{host}", max(1, int(found["MaxArraySize"])), "jobs" in hidden
        )
    except (KeyError, ValueError):
        raise SlurmError("scontrol show config: names no ClusterName and MaxArraySize") from None


def queue(names: Iterable[str], timeout_s: float = TIMEOUT_S) -> dict[tuple[str, int], QueuedJob]:
    """The jobs of these names by (name, array index), in one question."""
    names = sorted(set(names))
    if not names:
        return {}
    columns, selected = "--format=%j|%F|%K|%T|%r|%N", f"--name={','.join(names)}"
    text = ask("squeue", "--array", "--states=all", selected, columns, timeout=timeout_s)
    header, *lines = text.splitlines() or [""]
    if header.count("|") != 5:
        raise SlurmError(f"squeue: said {header[:60]!r}, which is no list of jobs")
    found: dict[tuple[str, int], QueuedJob] = {}
    for line in lines:
        try:
            name, job, index, state, reason, node = line.split("|", 5)
        except ValueError:
            raise SlurmError(f"squeue: said {line[:60]!r}, which is no job") from None
        alone = not index.isdigit()
        element = QueuedJob(name, job, 0 if alone else int(index), state, reason, node, alone)
        other = found.get((name, element.index))
        if other is None or element.is_live or not other.is_live:
            found[name, element.index] = element
    return found


def listed(job: str, timeout_s: float = TIMEOUT_S) -> dict[tuple[str, int], QueuedJob]:
    """What the controller itself knows under the id of an array or a job, by (name, array index).

    A list of squeue's may have been cut; this is the second question, about the very job.
    """
    try:
        text = ask("scontrol", "--oneliner", "show", "job", job, timeout=timeout_s)
    except SlurmError as error:
        if NO_JOB in str(error):
            return {}
        raise
    found: dict[tuple[str, int], QueuedJob] = {}
    for line in filter(str.strip, text.splitlines()):
        try:
            facts = re.findall(r"(\w+)=(\S*)", line)[::-1]  # of a key, the first: paths may look like one
            elements = _elements(dict(facts))
        except (KeyError, ValueError):
            raise SlurmError(f"scontrol: said {line[:60]!r}, which is no job") from None
        found |= {(element.name, element.index): element for element in elements}
    return found


def _elements(facts: Mapping[str, str]) -> list[QueuedJob]:
    """The elements of an array that a line of scontrol's is about: those that are pending share one."""
    states = facts["JobState"].split(",")  # with flags, by newer versions
    state = next((state for state in states if state in (*ACTIVE, *PENDING)), states[0])
    node = facts.get("NodeList", "").replace("(null)", "")
    name, reason, alone = facts["JobName"], facts.get("Reason", "None"), "ArrayTaskId" not in facts
    job = facts.get("ArrayJobId", facts["JobId"])
    indices = [0] if alone else _numbers(facts["ArrayTaskId"])
    return [QueuedJob(name, job, index, state, reason, node, alone) for index in indices]


def accounting(
    jobs: Iterable[str], since: float, timeout_s: float = TIMEOUT_S
) -> dict[tuple[str, int], EndedJob] | None:
    """How the elements of the arrays `jobs` last ended, by (name, index); None without accounting."""
    jobs = sorted(set(jobs))
    if not jobs:
        return {}
    start = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(max(0.0, since - CLOCKS_S)))
    columns = "JobName,JobID,State,ExitCode,NodeList"
    try:
        text = ask(
            "sacct",
            "-X",
            "-D",
            "-P",
            "-n",
            f"--starttime={start}",
            f"--jobs={','.join(jobs)}",
            f"--format={columns}",
            timeout=timeout_s,
        )
    except SlurmError:
        return None
    found: dict[tuple[str, int], EndedJob] = {}
    for line in text.splitlines():  # oldest first: the last execution of an element stays
        try:
            name, job, state, code, node = line.split("|")
            ended = EndedJob(state.split()[0], code, node)
            found |= {(name, index): ended for index in _indices(job)}
        except (ValueError, IndexError):
            return None  # no answer of accounting's
    return found


def _indices(job: str) -> list[int]:
    """Array indices of "12_3", "12_[0-2,5%4]" or "12"."""
    _, _, text = job.partition("_")
    return _numbers(text.strip("[]")) if text else [0]


def _numbers(text: str) -> list[int]:
    """The numbers that "0-2,5,6-10:2%4" names; raises `ValueError` where it is cut."""
    numbers: list[int] = []
    for part in text.partition("%")[0].split(","):
        found = SPAN.fullmatch(part)
        if not found:
            raise ValueError(text)
        numbers += range(int(found[1]), int(found[2] or found[1]) + 1, int(found[3] or 1))
    return numbers


def cancel(jobs: Iterable[str]) -> None:
    """Cancel jobs: ids like 12 or 12_3."""
    jobs = list(jobs)
    if jobs:
        ask("scancel", *jobs)


def own_jobs() -> int:
    """Number of this user's jobs in the queue, elements counted one by one."""
    return ask("squeue", "--noheader", "--array", "--me", "--format=%A").count("\n")
