"""A submission as an array of SLURM jobs: submitit's parameters, and what the script does before `srun`."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from launch import ports
from launch.slurm import client
from launch.slurm.ledger import Submission
from launch.slurm.refusals import Refused, refused
from vocl.config.cluster import SlurmCluster
from vocl.files import own_folder
from vocl.rundir.causes import Cause

SIGNAL = "USR2"  # that the time limit is near


def submit(submission: Submission, work: Any, code: Path, after: Iterable[str] = ()) -> str:
    """Queue an array of `work()` calls, one per element, through submitit; returns the array's id.

    The jobs import `code`, a folder. `after`: ids of jobs to wait for. Raises `Refused`.
    """
    own_folder(submission.folder)
    with _environment(client.clean_environment()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import submitit  # in here: it reads variables of its own as it is imported

        try:
            executor = submitit.SlurmExecutor(submission.folder, python=interpreter(submission.on_slurm))
            executor.update_parameters(**_parameters(submission, code, list(after)))
            jobs = executor.submit_array([work] * len(submission.elements))
        except submitit.core.utils.FailedJobError as error:
            failed = error.__cause__
            if isinstance(failed, subprocess.CalledProcessError):
                raise refused(failed.cmd, failed.stderr) from None
            raise Refused(" ".join(str(error).split()), Cause.NOT_SENT) from None
        except (OSError, RuntimeError) as error:
            raise Refused(" ".join(str(error).split()), Cause.NOT_SENT) from None
    return jobs[0].job_id.partition("_")[0]


def is_whole(submission: Submission, job: str) -> bool:
    """Whether everything that the elements of an array load lies where they look for it."""
    count = len(submission.elements)
    names = [f"{job}_{index}" for index in range(count)] if count > 1 else [job]
    return all((submission.folder / f"{name}_submitted.pkl").is_file() for name in names)


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _parameters(submission: Submission, code: Path, after: list[str]) -> dict[str, Any]:
    """submitit's parameters of a submission. Its jobs start in its own folder, outside any checkout."""
    cluster = submission.on_slurm
    extra: dict[str, Any] = {"requeue": True, "chdir": str(submission.folder)}
    extra |= {"export": ",".join(cluster.export) or "NONE"}
    extra |= {"dependency": f"afterany:{':'.join(after)}"} if after else {}
    setup = [
        f"export PYTHONPATH={shlex.quote(str(code))} PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1",
        f"export OMP_NUM_THREADS={cluster.cpus} MKL_NUM_THREADS={cluster.cpus}",
        *(_env_file(cluster.env_file) if cluster.env_file else []),
        *cluster.setup,
        *_ports(cluster),
        "unset ${!SUBMITIT_@}",  # of the user's shell on the node; what submitit needs it sets after this
    ]
    return {
        "job_name": submission.name,
        "partition": cluster.partition,
        "account": cluster.account,
        "qos": cluster.qos,
        "constraint": cluster.constraint,
        "exclude": cluster.exclude,
        "gres": cluster.gres,
        "nodes": cluster.nodes,
        "ntasks_per_node": cluster.tasks,
        "gpus_per_node": cluster.gpus or None,
        "cpus_per_task": cluster.cpus,
        "mem": f"{round(cluster.mem_gb * 1024)}M" if cluster.mem_gb else None,
        "time": cluster.time_min,
        "array_parallelism": cluster.max_running or len(submission.elements),
        "setup": setup,
        "srun_args": ["--export=ALL", "--kill-on-bad-exit=1", f"--cpus-per-task={cluster.cpus}"],
        "stderr_to_stdout": True,
        "wckey": None,
        # said here: submitit's own choice of a signal depends on the environment
        "additional_parameters": extra | cluster.sbatch | {"signal": f"{SIGNAL}@{cluster.signal_s}"},
    }


def _env_file(name: str) -> list[str]:
    """Shell lines that read KEY=value lines of a file on the node; only the name stands in the script.
    Where it cannot be read the job ends: its run would train on without."""
    quoted = shlex.quote(name)
    told = shlex.quote(f"cluster.env_file={name}: cannot be read on this node, the job ends")
    return ["set -a", f"[ -r {quoted} ] || echo {told}", f". {quoted} || exit 1", "set +a"]


def _ports(cluster: SlurmCluster) -> list[str]:
    """Shell lines that give each run of an element a port, if runs have several ranks."""
    if cluster.nodes * cluster.tasks == 1:
        return []
    command = f"{interpreter(cluster)} -m launch.ports {cluster.runs_per_job}"
    return [f'{ports.VARIABLE}="$({command})" || exit 1', f"export {ports.VARIABLE}"]


def interpreter(cluster: SlurmCluster) -> str:
    """Shell words that start Python on a node."""
    python = shlex.quote(cluster.python or sys.executable)
    if not cluster.container:
        return python
    return f"{shlex.join(shlex.split(cluster.container))} {python}"
