"""`vocl status`: what has become of runs, on a board of rows x columns x seeds."""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import dataclass

from launch.run_states import health, text_table
from launch.run_states.many import few_collections
from launch.run_states.states import STATES, RunState
from launch.selection.selector import ChosenRuns, resolve_or_all
from launch.selection.submitted import PlacedRun
from launch.slurm.job_states import Asker, ask
from vocl.command_line import defaults
from vocl.command_line.verb import ABLATIONS, RUNS, SUBMITTED, Line, option, verb, words

PATIENCE_S = 20.0  # for SLURM's answer
HEADERS = ("row", "column", "seed", "run", "state", "step", "rate", "left", "probe", "job", "node", "reason")
LINES = 60  # of the reason, in characters; `vocl why` shows all


@dataclass(frozen=True)
class Board:
    """What there is to show: lines per group of runs, and lines about all."""

    groups: dict[str, list[list[str]]]
    states: dict[str, RunState]
    summary: str
    warnings: list[str]

    @property
    def lines(self) -> list[str]:
        """The whole board."""
        lines = []
        for title, rows in self.groups.items():
            lines += [title, *text_table.align(HEADERS, rows), ""]
        return [*lines, self.summary, *self.warnings]


@verb("status")
@words("[SELECTOR | RUN...]", SUBMITTED, takes=defaults.NAMES, offers=(ABLATIONS, RUNS))
@option("--watch", is_flag=True, help="Keep the board up to date until nothing is live, or q.")
def main(line: Line, watch: bool) -> int:
    """Show what has become of runs, on a board of rows x columns x seeds; always 0.

    An ablation is shown as it was last submitted; without a selector all runs are shown.
    """
    chosen = resolve_or_all(line.words)
    if watch:
        from launch.commands import watch as watching

        return watching.watch(chosen)
    if not chosen.groups:
        print(f"no runs in {chosen.root}")
        return 0
    text_table.write(take(chosen, functools.partial(ask, timeout_s=PATIENCE_S)).lines)
    return 0


@few_collections()
def take(chosen: ChosenRuns, asked: Asker = ask) -> Board:
    """Look at the runs now."""
    states, trouble = chosen.look(asked)
    groups = {
        title: [_row(entry, states[entry.id]) for entry in entries]
        for title, entries in chosen.groups.items()
    }
    runs = chosen.by_id
    warnings = [f"warning: {trouble}; this is what the records say"] if trouble else []
    states = {run: states[run] for run in runs}
    for run, found in health.flags_of(chosen.root, states).items():
        if found:
            label = f" ({runs[run].label})" if runs[run].label else ""
            warnings.append(f"warning: {run}{label}: {'; '.join(found)}")
    return Board(groups, states, _summary(states), warnings)


def _row(entry: PlacedRun, state: RunState) -> list[str]:
    step = "" if state.step is None or state.name == "done" else f"{state.step}/{state.steps}"
    rate = f"{state.rate:.3g}/s" if state.rate else ""
    seed = "" if entry.seed is None else str(entry.seed)
    where = (state.job, state.node) if state.name != "done" else ("", "")
    left = text_table.duration(state.left_s)
    reason = text_table.cut(state.full_reason, LINES)
    facts = (state.name, step, rate, left, state.probe, *where, reason)
    return [entry.row, entry.column, seed, entry.id, *facts]


def _summary(states: dict[str, RunState]) -> str:
    counts = Counter(state.name for state in states.values())
    told = ", ".join(f"{counts[name]} {name}" for name in reversed(STATES) if counts[name])
    hours = sum(state.records.gpu_hours for state in states.values() if state.records)
    longest = max((state.left_s or 0.0 for state in states.values()), default=0.0)
    left = f"; those running need up to {text_table.duration(longest)} yet" if longest else ""
    hint = "; failed: vocl why" if counts["failed"] else ""
    unscored = sum(state.name == "done" and bool(state.reason) for state in states.values())
    hint += f"; an evaluation failed in {text_table.runs(unscored)}: vocl eval RUN" if unscored else ""
    return f"{text_table.runs(len(states))}: {told}; {hours:.1f} GPU hours so far{left}{hint}"
