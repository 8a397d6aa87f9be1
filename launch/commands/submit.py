"""`vocl submit`: queue what a selector names and nobody has yet, each run exactly once."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from launch.ablations.ablation import Ablation
from launch.ablations.overrides import slug
from launch.run_states.states import LIVE, UNKNOWN, RunState, left_alone, look, refuse_taken
from launch.selection.plan import Selection, Spec, select
from launch.selection.selector import of_selection
from launch.selection.submitted import Submitted, read_submitted, spelt
from launch.slurm.client import SlurmError, announced
from launch.slurm.request import check_request
from launch.submission import local, tend_job, tend_policy
from launch.submission.enqueue import Queued, enqueue, recover
from launch.submission.job_config import JOB
from launch.submission.preflight import missing
from vocl.command_line import defaults
from vocl.command_line.verb import ABLATIONS, GROUPS, SELECTOR, Line, option, verb, words
from vocl.config.cluster import LocalCluster, SlurmCluster
from vocl.config.run_config import RunConfig
from vocl.errors import UserError
from vocl.files import make_folder, refuse_planted, write_text
from vocl.rundir import claims
from vocl.rundir.causes import Cause
from vocl.rundir.of_config import cell_of
from vocl.rundir.results_root import ResultsRoot
from vocl.stop import EXIT_STOPPED, StopFlag, stop_on_signal

WAIT_POLL_S = 5.0
TAKEN = ("absent", "interrupted")  # states of the runs that a submit takes


@verb("submit")
@words("SELECTOR [cluster=NAME]", SELECTOR, required=True, takes=defaults.PLACED, offers=(ABLATIONS, GROUPS))
@option("--tend", is_flag=True, help="Also queue a one-core job that does `vocl tend` once they are over.")
@option("--first", is_flag=True, help="Train the first of them alone, in this process: to debug.")
def main(line: Line, tend: bool, first: bool) -> int:
    """Train the runs of SELECTOR that are absent or were interrupted, each exactly once.

    Returns 0, 1 when SLURM refused or (cluster=local, cluster.wait) a run failed, 75 when stopped.
    """
    if not first:
        return hand_over(line.words, tend)
    with stop_on_signal() as stop:  # composing and importing take seconds
        return train_first(select(line.words), stop)


def train_first(selection: Selection, stop: StopFlag) -> int:
    """Train the first run of `selection` in this process, wherever the others will go; its exit code."""
    from vocl.train import train_here

    spec = next(spec for spec in selection.runs if spec.after is None)
    spec = replace(spec, config=replace(spec.config, cluster=JOB))
    folder = selection.root.run(spec.id)
    if not folder.is_done():
        refuse_taken(folder)
        _refuse_missing([spec])
    label = f" ({spec.label})" if selection.ablation else ""
    print(f"the first of {len(selection.runs)} runs, in this process: {spec.id}{label}", flush=True)
    return train_here(spec.config, stop)


def hand_over(words: Sequence[str], tend: bool = False) -> int:
    """What `vocl submit` does; `tend`: with a job that tends the runs."""
    selection = select(words)
    code = submit(selection, TAKEN)
    if tend and not tend_job.schedule(of_selection(selection)):
        return code or 1
    return code


def submit(selection: Selection, wanted: Iterable[str]) -> int:
    """Hand over the runs of `selection` whose state is among `wanted`; the verb's exit code."""
    root = selection.root.absolute()
    runs = selection.runs
    try:
        if selection.ablation:
            link(selection, selection.ablation, root)
        ids = [spec.id for spec in runs]
        with announced():
            with suppress(SlurmError):
                recover(root, ids)
            states, trouble = look(root, ids)
        # seed by seed, so that a table half done has one seed everywhere
        todo = sorted((s for s in runs if states[s.id].name in wanted), key=lambda spec: spec.seed)
        _refuse_missing(todo)
        on_slurm = [spec for spec in todo if isinstance(spec.config.cluster, SlurmCluster)]
        if trouble and on_slurm:
            print(f"not submitted: {trouble}", file=sys.stderr)
            return 1
        print(_summary(runs, states, todo), flush=True)
        for line in left_alone(states):
            print(line, file=sys.stderr)
        queued = enqueue(root, on_slurm, states, selection.arguments)
        tell(queued, root)
        code = local.run_all(root, [s for s in todo if s not in on_slurm], states, selection.arguments)
    except OSError as error:
        place = f"{error.strerror}: {error.filename}" if error.filename else str(error)
        raise UserError(f"runtime.root={root}: cannot write there: {place}") from None
    if code == EXIT_STOPPED:
        print(f"stopped; to go on: vocl submit {shlex.join(selection.arguments)}", file=sys.stderr)
    if any(spec.config.cluster.wait for spec in on_slurm):
        code = max(code, wait(root, ids))
    return code or (1 if queued.refused else 0)


def submit_one(config: RunConfig) -> int:
    """Hand over one checked config; prints its scores when it is done and the exit code of its end."""
    check_request(config)
    spec = Spec(config.run_id, cell_of(config.content), config, "", "", config.seed)
    selection = Selection([spec], None, ())
    code = submit(selection, (*TAKEN, "failed"))
    run = selection.root.run(spec.id)
    if done := run.result_or_none():
        for name, value in {**done.metrics, **done.scores}.items():
            print(f"{name} {value}")
        print(run.result_path)
    return code


def wait(root: ResultsRoot, runs: Sequence[str]) -> int:
    """Until none of `runs` is live any more, as far as anybody can tell; 0 if all are done, else 1."""
    while True:
        states, _ = look(root, runs)
        if not any(state.name in (*LIVE, UNKNOWN) for state in states.values()):
            return 0 if all(state.name == "done" for state in states.values()) else 1
        time.sleep(WAIT_POLL_S)


def link(selection: Selection, ablation: Ablation, root: ResultsRoot) -> None:
    """<root>/by-name/<ablation>/<row>/<column>/s<seed> -> the run's folder, and what was selected."""
    base = root.by_name / ablation.name
    refuse_planted(root.by_name)
    for spec in selection.specs:
        path = base / slug(spec.row) / slug(spec.column) / f"s{spec.seed}"
        target = os.path.relpath(root.run(spec.id).path, path.parent)
        make_folder(path.parent)
        if path.is_symlink() and os.readlink(path) == target:
            continue
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.symlink_to(target)
        temporary.replace(path)
    rows = [
        {"row": s.row, "column": s.column, "seed": s.seed, "id": s.id, "after": s.after}
        for s in selection.specs
    ]
    known = base / "selection.json"
    text = spelt(_with_other_seeds(known, Submitted(list(selection.arguments), rows)))
    if not known.is_file() or known.read_bytes() != text.encode():
        write_text(known, text)


def _with_other_seeds(path: Path, new: Submitted) -> Submitted:
    """What was submitted as a table so far: seeds that were submitted apart belong to one table."""
    earlier = read_submitted(path)
    if earlier is None or _but_seeds(earlier.arguments) != _but_seeds(new.arguments):
        return new
    again = {row["seed"] for row in new.runs}  # whole: what else is known of them has left the table
    others = [row for row in earlier.runs if row["seed"] not in again]
    arguments = new.arguments
    if others:
        seeds = sorted({row["seed"] for row in [*others, *new.runs]})
        arguments = [a for a in new.arguments if not a.startswith("seed=")]
        arguments.append(f"seed={','.join(map(str, seeds))}")
    return Submitted(arguments, [*others, *new.runs])


def _but_seeds(arguments: list[str]) -> list[str]:
    return [a for a in arguments if not a.startswith(("seed=", "cluster=", "cluster."))]


def _refuse_missing(specs: Sequence[Spec]) -> None:
    lines = list(dict.fromkeys(line for spec in specs for line in missing(spec.config)))
    if lines:
        raise UserError("; ".join(lines))


def _summary(runs: Sequence[Spec], states: dict[str, RunState], todo: Sequence[Spec]) -> str:
    counts: dict[str, int] = {"done": 0}
    for spec in runs:
        if spec not in todo:
            name = states[spec.id].name
            counts[name] = counts.get(name, 0) + 1
    words = [f"{count} {name}{' already' * (name != UNKNOWN)}" for name, count in sorted(counts.items())]
    slots = {c.slots for c in (s.config.cluster for s in todo) if isinstance(c, LocalCluster)}
    where = f" in {slots.pop()} slots" if len(slots) == 1 else ""
    hint = "; failed ones: vocl why, vocl retry" if counts.get("failed") else ""
    return f"{len(runs)} runs: {', '.join([*words, f'{len(todo)} to do{where}'])}{hint}"


def tell(queued: Queued, root: ResultsRoot) -> None:
    """Print what a submission came to: each array, runs that another submit claimed first, and, to
    stderr, those that were refused, why, and for how many of them `vocl tend` will try again."""
    for job, runs in queued.arrays.items():
        print(f"queued job {job}: {len(runs)} runs", flush=True)
    if queued.lost:
        print(f"{len(queued.lost)} runs were claimed by another submit at the same moment", flush=True)
    if queued.refused:
        later = sum(_is_for_tend(root, spec, queued.cause) for spec in queued.refused)
        some = "" if later == len(queued.refused) else f", for {later} of them"
        hint = f"; later{some}: vocl tend" if later else ""
        print(f"not queued: {len(queued.refused)} runs: {queued.trouble}{hint}", file=sys.stderr)


def _is_for_tend(root: ResultsRoot, spec: Spec, cause: Cause | None) -> bool:
    """Whether `vocl tend` will try a run again that was refused: claimed and withdrawn, or never claimed,
    for a cause that passes; where it starts from another run, whether it will try that."""
    claim = claims.newest(root.run(spec.id))
    if claim is None and spec.after is not None:
        claim = claims.newest(root.run(spec.after))
    if claim is not None:
        return tend_policy.is_left_out(claim)
    return cause is not None and cause.passes
