"""A one-core job that tends a submission once its arrays are over, and queues its successor."""

from __future__ import annotations

import getpass
import hashlib
import logging
import shlex
from collections.abc import Sequence

from launch.run_states.states import LIVE, RunState, look, with_sources
from launch.selection.selector import ChosenRuns
from launch.slurm import client, sbatch
from launch.slurm.client import SlurmError
from launch.submission import resubmit, snapshot, tend_policy
from vocl.command_line.defaults import ELSEWHERE
from vocl.config.grammar import setting
from vocl.files import open_plain, write_text
from vocl.tracking import log

PREFIX = "vocl-"  # of the names of such jobs, and of their scripts in the ledger

logger = logging.getLogger(__name__)
TIME_MIN = 240  # a pass takes seconds; the rest is for a controller that is away
LEFT_OUT_S = 600  # between looks for room where there is no job of these runs to wait for


def schedule(target: ChosenRuns, after_s: int = 0, verb: str = "tend") -> bool:
    """Queue the job behind what is live of `target`, `after_s` seconds from now at the earliest; where
    nothing is left but runs that limits kept out, behind nothing, `LEFT_OUT_S` from now.

    `verb`: what it does; as "search" it begins when the first of them is over, not the last.

    Nothing is queued where nothing is to be tended, or where such a job waits already. False, once
    that is said, where SLURM does not answer or refuses.
    """
    log.configure()
    states, trouble = look(target.root, target.runs)
    live = [state for state in states.values() if state.name in LIVE and state.in_queue and state.claim]
    sourced = with_sources(states, {entry.id: entry.after for entry in target.entries if entry.after})
    able = [states[run] for run, state in sourced.items() if state.name != "blocked"]
    left = [state for state in able if tend_policy.is_left_out(state.claim)]
    try:
        if (live or left) and not trouble and not _waits(_name(target, verb)):
            _queue(target, live or left, after_s if live else max(after_s, LEFT_OUT_S), verb)
    except SlurmError as error:
        trouble = str(error)
    if trouble:
        logger.error("no tending job queued: %s", trouble)
    return not trouble


def _waits(name: str) -> bool:
    """Whether a job of that name is yet to begin. One that runs may have looked already, and be about to
    end: it does not know of what was submitted since."""
    return any(job.state in client.PENDING for job in client.queue([name]).values())


def _queue(target: ChosenRuns, states: Sequence[RunState], after_s: int, verb: str) -> None:
    """Queue the job for when the jobs of `states` are over, if they have any."""
    jobs = [state.job for state in states if state.name in LIVE]
    if verb == "search":
        awaited = "?".join(f"afterany:{job}" for job in sorted(set(jobs)))  # any of them
    else:
        awaited = ":".join(["afterany", *sorted({job.partition("_")[0] for job in jobs})])
    options = [f"--dependency={awaited}"] if jobs else []
    begin = f"--begin=now+{after_s}"
    job = client.ask("sbatch", "--parsable", begin, *options, *_options(target, states, verb))
    logger.info("job %s tends them %s", job.strip(), "once they are over" if jobs else f"in {after_s} s")


def _options(target: ChosenRuns, states: Sequence[RunState], verb: str) -> list[str]:
    name = _name(target, verb)
    claim = next(state.claim for state in states if state.claim)
    submission = resubmit.submission_of(target.root, claim)
    assert submission is not None, claim
    cluster, folder = submission.on_slurm, target.root.ledger
    code = resubmit.code_of(target.root, claim.run.id, claim) or snapshot.take(target.root, None)
    chosen = [target.name] if target.name else target.runs
    words = ["-m", "launch.cli", verb, *chosen, setting("runtime.root", target.root), "--arm"]
    lines = [
        "#!/bin/sh",
        f"export PYTHONPATH={shlex.quote(str(code))} PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1",
        f"export {ELSEWHERE}=",  # what was submitted says all
        *cluster.setup,
        f"exec {sbatch.interpreter(cluster)} {shlex.join(words)}",
    ]
    script = folder / f"{name}.sh"
    write_text(script, "\n".join(lines) + "\n")
    open_plain(folder / f"{name}.txt").close()  # so that SLURM appends to no link in its place
    options = {"partition": cluster.partition, "account": cluster.account, "qos": cluster.qos}
    return [
        f"--job-name={name}",
        f"--output={folder / name}.txt",
        "--open-mode=append",
        "--requeue",
        f"--chdir={folder}",
        "--ntasks=1",
        "--cpus-per-task=1",
        f"--time={min(TIME_MIN, cluster.time_min)}",  # the partition lets the runs take as long
        f"--export={','.join(cluster.export) or 'NONE'}",
        *(f"--{key}={value}" for key, value in options.items() if value is not None),
        str(script),
    ]


def _name(target: ChosenRuns, verb: str) -> str:
    """The job's name: one per user, who tends none but their own runs, results folder and selection."""
    chosen = [target.name] if target.name else ["", *sorted(target.runs)]
    text = "\0".join([getpass.getuser(), str(target.root), *chosen])
    return f"{PREFIX}{verb}-{hashlib.blake2s(text.encode(), digest_size=5).hexdigest()}"
