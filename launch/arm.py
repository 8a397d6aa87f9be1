"""A one-core job that tends a submission once its arrays are over, and queues its successor."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Mapping

from launch import frozen, slurm, snapshot
from launch.selector import Target
from launch.slurm import SlurmError
from launch.states import LIVE, RunState, look
from vocl.files import write_text

TIME_MIN = 30


def arm(target: Target, after_s: int = 0) -> str | None:
    """Queue the job behind what is live of `target`, `after_s` seconds from now at the earliest.

    None where nothing is live, or where such a job waits already.
    """
    states = look(target.root, target.runs)[0]
    arrays = {state.job.partition("_")[0] for state in states.values() if state.name in LIVE and state.job}
    if not arrays:
        return None
    name = _name(target)
    own = os.environ.get("SLURM_JOB_ID")
    if any(job.is_live and job.job != own for job in slurm.queue([name]).values()):
        return None
    try:
        job = slurm.ask(
            "sbatch", "--parsable", f"--begin=now+{after_s}", *_options(target, states, name, sorted(arrays))
        ).strip()
    except SlurmError as error:
        print(f"not tended by a job: {error}")
        return None
    print(f"job {job} tends them once they are over")
    return job


def _options(target: Target, states: Mapping[str, RunState], name: str, arrays: list[str]) -> list[str]:
    claim = next(state.claim for state in states.values() if state.name in LIVE and state.claim)
    submission = frozen.submission_of(target.root, claim)
    assert submission is not None, claim
    cluster, folder = submission.cluster, target.root / "ledger"
    code = frozen.code_of(target.root, claim.folder.name, claim) or snapshot.take(target.root, None)
    chosen = [target.name] if target.name else target.runs
    words = ["-m", "launch.cli", "tend", *chosen, f"runtime.root={target.root}", "--arm"]
    lines = [
        "#!/bin/sh",
        f"export PYTHONPATH={shlex.quote(str(code))} PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1",
        *cluster["setup"],
        f"exec {slurm.interpreter(cluster)} {shlex.join(words)}",
    ]
    script = folder / f"{name}.sh"
    write_text(script, "\n".join(lines) + "\n")
    options = {"partition": cluster["partition"], "account": cluster["account"], "qos": cluster["qos"]}
    return [
        f"--job-name={name}",
        f"--dependency=afterany:{':'.join(arrays)}",
        f"--output={folder / name}.txt",
        "--open-mode=append",
        "--requeue",
        f"--chdir={folder}",
        "--ntasks=1",
        "--cpus-per-task=1",
        f"--time={TIME_MIN}",
        f"--export={','.join(cluster['export']) or 'NONE'}",
        *(f"--{key}={value}" for key, value in options.items() if value is not None),
        str(script),
    ]


def _name(target: Target) -> str:
    """The job's name: one per results folder and selection."""
    text = "\0".join([str(target.root), target.name or "", *([] if target.name else sorted(target.runs))])
    return f"vocl-tend-{hashlib.blake2s(text.encode(), digest_size=5).hexdigest()}"
