"""`vocl plan`: what a selector names, what has become of it, and what submitting the rest would mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from launch.commands.submit import TAKEN
from launch.escape import one_line
from launch.run_states.states import RunState, look
from launch.selection.plan import Selection, Spec, select
from launch.slurm import client
from launch.submission import forecast, memory
from launch.submission.preflight import warnings
from vocl.command_line import defaults
from vocl.command_line.verb import ABLATIONS, GROUPS, SELECTOR, Line, option, verb, words
from vocl.config.cluster import SlurmCluster
from vocl.rundir.results_root import ResultsRoot

NAMES = {"absent": "new"}  # as people say it before anything was submitted
SHOWN = 8  # lines of a kind, before the rest is only counted


@verb("plan")
@words("SELECTOR", SELECTOR, required=True, takes=defaults.PLACED, offers=(ABLATIONS, GROUPS))
@option("--memory", "of_gpu", is_flag=True, help="And what a training step takes of a GPU; 15 s a cell.")
def main(line: Line, of_gpu: bool) -> int:
    """Compose, check and sign every run of SELECTOR; changes nothing.

    Lists the runs with their states, cells whose config is not what was run under their name, the
    arrays and GPU hours of what is to do, and what is missing for it, as warnings. Returns 0.
    """
    selection = select(line.words)
    root = selection.root
    states, trouble = look(root, [spec.id for spec in selection.runs])
    _print_runs(selection, states)
    for told in _summary(selection, states):
        print(told)
    _print_changed(forecast.changed(selection.specs, selection.ablation, root))
    todo = [s for s in selection.runs if states[s.id].name in TAKEN]
    for told in [*_cost(todo, root), *([f"warning: {trouble}"] if trouble else [])]:
        print(told)
    for warning in warnings(selection.runs):
        print(f"warning: {warning}")
    if of_gpu:
        for told in memory.told(selection.runs):
            print(told, flush=True)
    return 0


def _print_runs(selection: Selection, states: dict[str, RunState]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("row", "column", "seed", "run", "state", box=box.SIMPLE)
    for spec in selection.specs:
        state = states[spec.id]
        words = NAMES.get(state.name, state.name) + (f" ({state.full_reason})" if state.full_reason else "")
        texts = (spec.row, spec.column, str(spec.seed), spec.id, words)
        table.add_row(*(Text(one_line(text)) for text in texts))
    console = Console()
    if not console.is_terminal:
        wide = Console(width=1000)
        console = Console(width=max(80, table.__rich_measure__(wide, wide.options).maximum))
    console.print(table)


def _summary(selection: Selection, states: dict[str, RunState]) -> list[str]:
    names = Counter(NAMES.get(state.name, state.name) for state in states.values())
    counts = ", ".join(f"{count} {name}" for name, count in sorted(names.items()))
    repeated = len(selection.specs) - len(states)
    more = f"; {repeated} more cells show one of these" if repeated else ""
    return [f"{len(states)} runs: {counts}{more}"]


def _print_changed(changed: dict[str, list[str]]) -> None:
    for label, keys in list(changed.items())[:SHOWN]:
        print(one_line(f"changed since last time: {label}: {'; '.join(keys)}"))
    if len(changed) > SHOWN:
        print(f"changed since last time: {len(changed) - SHOWN} more cells")


def _cost(todo: Sequence[Spec], root: ResultsRoot) -> list[str]:
    """Arrays and GPU hours of what would go to SLURM."""
    todo = [spec for spec in todo if isinstance(spec.config.cluster, SlurmCluster)]
    if not todo:
        return []
    try:
        size, note = client.controller().max_array_size, []
    except client.SlurmError as error:
        size, note = forecast.UNLIMITED, [f"warning: {error}"]
    lines = [f"to queue: {line}" for line in forecast.arrays(todo, size)]
    hours, guesses = forecast.gpu_hours(todo, [root.run(run) for run in root.run_ids()])
    at_most = f"; {guesses} of {len(todo)} runs at their time limit, none of their cell has finished yet"
    return [*lines, f"GPU hours: {hours:.1f}{at_most if guesses else ''}", *note]
