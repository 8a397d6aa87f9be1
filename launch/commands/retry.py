"""`vocl retry`: failed or interrupted runs again, with the code that they were submitted with."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import click

from launch.commands.submit import tell
from launch.run_states.states import RunState, left_alone, look
from launch.selection.plan import Spec
from launch.selection.selector import ChosenRuns, resolve
from launch.selection.submitted import PlacedRun
from launch.slurm.client import SlurmError
from launch.submission import local, resubmit
from launch.submission.enqueue import enqueue, recover
from vocl.command_line import defaults
from vocl.command_line.verb import ABLATIONS, RUNS, SUBMITTED, Line, option, verb, words
from vocl.config.cluster import SlurmCluster
from vocl.config.compose import project_of
from vocl.config.grammar import key_of
from vocl.errors import EXIT_USER, UserError
from vocl.files import user_path
from vocl.rundir.results_root import ResultsRoot

STATES = ("failed", "interrupted")


def _nodes(context: click.Context, parameter: click.Parameter, nodes: tuple[str, ...]) -> tuple[str, ...]:
    if any(not node or node.startswith("-") for node in nodes):
        raise UserError("--exclude-node: name a node, e.g. --exclude-node gpu13")
    return nodes


@verb("retry")
@words(
    "SELECTOR | RUN... [cluster.KEY=VALUE...] [runtime.KEY=VALUE...]",
    SUBMITTED,
    takes=defaults.NAMES,
    offers=(ABLATIONS, RUNS),
)
@option(
    "--exclude-node",
    "nodes",
    metavar="NODE",
    multiple=True,
    callback=_nodes,
    help="Not on this node, or these: gpu[3,7].",
)
@option("--new-code", is_flag=True, help="With today's files instead of the snapshot.")
def main(line: Line, nodes: tuple[str, ...], new_code: bool) -> int:
    """Queue failed or interrupted runs again, with the code that they were submitted with.

    They go on from their last checkpoint, on the cluster of their last submission but for the keys that
    are given. Returns 0; 1 when SLURM refused, or a run failed that was trained here; 2 when a run's
    records do not tell how it was submitted; 75 when stopped.
    """
    target = resolve([word for word in line.words if not _is_of_runtime(word)])
    with suppress(SlurmError):
        recover(target.root, target.runs)
    states, trouble = look(target.root, target.runs)
    entries = {entry.id: entry for entry in target.entries if states[entry.id].name in STATES}
    if trouble:
        print(f"not submitted: {trouble}", file=sys.stderr)
        return 1
    print(f"{len(target.runs)} runs: {len(entries)} to do again", flush=True)
    for told in left_alone(states):
        print(told, file=sys.stderr)
    return again(target, list(entries.values()), states, line.words, nodes, new_code)


def again(
    target: ChosenRuns,
    entries: Sequence[PlacedRun],
    states: Mapping[str, RunState],
    arguments: Sequence[str],
    nodes: Sequence[str] = (),
    new_code: bool = False,
) -> int:
    """Queue, or train here, runs that were submitted before; the verb's exit code."""
    root, changes = target.root, resubmit.asked_of_cluster(arguments)
    found = [_frozen(root, entry, states[entry.id], changes, new_code) for entry in entries]
    runtime = resubmit.asked_of_runtime(arguments)
    specs = [_changed(spec, nodes, runtime) for spec in found if spec is not None]
    if new_code:
        specs = [_as_of_today(spec, (*target.arguments, *arguments)) for spec in specs]
    on_slurm = [spec for spec in specs if isinstance(spec.config.cluster, SlurmCluster)]
    if new_code:
        queued = enqueue(root, on_slurm, dict(states), arguments)
    else:
        queued = resubmit.again(root, on_slurm, states, arguments)
    tell(queued, root)
    here = [spec for spec in specs if spec not in on_slurm]
    code = local.run_all(root, here, dict(states), arguments)
    return code or (1 if queued.refused else EXIT_USER if None in found else 0)


def _frozen(
    root: ResultsRoot, entry: PlacedRun, state: RunState, changes: Mapping[str, Any], new_code: bool
) -> Spec | None:
    """The run as it was submitted; where its records do not tell, it says so, and the others go on."""
    try:
        spec = resubmit.spec_of(root, entry, state.claim, changes)
        if isinstance(spec.config.cluster, SlurmCluster) and not new_code:
            resubmit.code_of(root, entry.id, state.claim)
    except UserError as error:
        print(f"not queued {entry.described}: {error}", file=sys.stderr)
        return None
    return spec


def _is_of_runtime(word: str) -> bool:
    """Whether an argument says how a run executes, and so not which runs."""
    key = key_of(word)
    return key.startswith("runtime.") and key != "runtime.root"


def _changed(spec: Spec, nodes: Sequence[str], runtime: Mapping[str, Any]) -> Spec:
    """`spec`, kept from `nodes` and with changes of its section `runtime`."""
    config = replace(spec.config, runtime=replace(spec.config.runtime, **runtime))
    if nodes and isinstance(config.cluster, SlurmCluster):
        known = [config.cluster.exclude] if config.cluster.exclude else []
        excluded = ",".join(dict.fromkeys([*known, *nodes]))
        config = replace(config, cluster=replace(config.cluster, exclude=excluded))
    return replace(spec, config=config)


def _as_of_today(spec: Spec, arguments: Sequence[str]) -> Spec:
    """`spec` with the project's own folder instead of the copy in a snapshot."""
    if spec.config.project is None:
        return spec
    project = project_of(arguments)
    if project is None:
        raise UserError(f"--new-code: run {spec.id} needs a project: add project=PATH")
    return replace(spec, config=replace(spec.config, project=str(user_path(project).absolute())))
