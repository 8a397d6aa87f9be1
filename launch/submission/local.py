"""Runs on this machine: `cluster.slots` child processes at a time, with the records of a cluster's jobs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace

from launch.node.pool import Job, Outcome, Pool
from launch.node.progress import make_board
from launch.run_states.states import RunState
from launch.selection.plan import Spec
from launch.slurm import ledger
from launch.submission.job_config import freeze
from vocl.config.cluster import LocalCluster
from vocl.errors import UserError, printable
from vocl.rundir import causes, claims
from vocl.rundir.causes import Cause
from vocl.rundir.results_root import ResultsRoot
from vocl.stop import EXIT_STOPPED
from vocl.tracking import log

TRAIN = (sys.executable, "-m", "vocl.train", "--config")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def run_all(
    root: ResultsRoot, specs: Sequence[Spec], states: dict[str, RunState], arguments: Iterable[str]
) -> int:
    """Claim `specs` and train them; 0 all done, 1 some, or evaluations of some, failed (the
    others went on), 75 stopped."""
    if not specs:
        return 0
    log.configure()
    slots = _slots(specs)
    jobs = claimed(root, specs, states, arguments, slots)
    if not jobs:
        return 0
    pool = Pool(slots, environment(slots), make_board(len(jobs)))
    outcomes = pool.run(jobs)
    begun = {outcome.job.id for outcome in outcomes}
    left = [job for job in jobs if job.id not in begun]
    for job in left:
        cause = Cause.NOT_BEGUN if pool.stopped else Cause.NO_SOURCE
        why = causes.sentence(cause, source=job.after)
        claims.over(job.claim, "withdrawn", cause, line=why)
        if not pool.stopped:
            print(f"not started: {job.id} ({job.label}): {why}", file=sys.stderr)
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    for outcome in failed:
        line = f"failed: {outcome.job.id} ({outcome.job.label}): {reason(outcome)}"
        print(printable(line), file=sys.stderr)
    unscored = [outcome for outcome in outcomes if outcome.state == "done" and outcome.code]
    for outcome in unscored:
        line = f"done, but {outcome.job.id} ({outcome.job.label}): {outcome.last_line}"
        print(printable(line), file=sys.stderr)
    if (left and pool.stopped) or any(outcome.state == "stopped" for outcome in outcomes):
        return EXIT_STOPPED
    return 1 if failed or left or unscored else 0


def environment(slots: int) -> dict[str, str]:
    """What the processes of a pool see beside this one's environment."""
    return {name: str(_threads(slots)) for name in THREADS} | {"PYTHONUNBUFFERED": "1"}


def claimed(
    root: ResultsRoot,
    specs: Sequence[Spec],
    states: dict[str, RunState],
    arguments: Iterable[str],
    slots: int,
) -> list[Job]:
    """A job for each run that this process could claim."""
    submission = ledger.write(root, specs[0].config.cluster, [[s.id] for s in specs], None, arguments)
    jobs = []
    for spec in specs:
        run = root.run(spec.id)
        claim = claims.make(run, states[spec.id].claim, submission.token, "local")
        if claim is None:
            continue
        config = spec.config
        runtime = replace(config.runtime, threads=config.runtime.threads or _threads(slots))
        freeze(run, replace(spec, config=replace(config, runtime=runtime)), config.project)
        command = (*TRAIN, str(run.config_path))
        jobs.append(Job(spec.id, spec.label, command, run, config.train.steps, claim, spec.after))
    return jobs


def _slots(specs: Sequence[Spec]) -> int:
    """Runs at a time; a selection is one submission, so all of its runs must say the same."""
    clusters = (spec.config.cluster for spec in specs)
    slots = {cluster.slots for cluster in clusters if isinstance(cluster, LocalCluster)}
    if len(slots) > 1:
        raise UserError(f"cluster.slots: one submission has one pool, not {sorted(slots)}")
    return slots.pop()


def _threads(slots: int) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // slots)


def reason(outcome: Outcome) -> str:
    """The last line of output, and where the record or the log lies."""
    records = sorted(outcome.job.run.events.glob("*-failed.json"))
    place = records[-1] if outcome.code == 1 and records else outcome.job.run.log_path
    killed = f"ended by signal {-outcome.code}: " if outcome.code < 0 else ""
    line = f"{killed}{outcome.last_line}"
    return line if str(place) in line else f"{line}; see {place}"
