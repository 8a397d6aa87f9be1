"""`vocl why`: what kept runs from their end, grouped by cause."""

from __future__ import annotations

import functools
import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from launch.commands.status import PATIENCE_S
from launch.node.log_tail import last_lines
from launch.run_states import text_table
from launch.run_states.states import GIVE_UP, UNKNOWN, RunState
from launch.selection.selector import ChosenRuns, resolve_or_all
from launch.selection.submitted import PlacedRun
from launch.slurm.job_states import ask
from vocl.command_line import defaults
from vocl.command_line.verb import ABLATIONS, RUNS, SUBMITTED, Line, verb, words
from vocl.rundir.results_root import ResultsRoot
from vocl.rundir.run_dir import LOG

LAST_LINES = 5
HINTS = {
    "failed": "to try failed ones again: vocl retry",
    "blocked": "",
    "interrupted": "to go on with interrupted ones: vocl submit NAME, or vocl retry RUN",
    UNKNOWN: GIVE_UP.format(run="RUN"),
}
CAUSES = {  # the beginning of a reason: what it is called here
    "NonFinite:": "NaN: a loss or gradient was not finite",
    "OutOfMemoryError:": "out of memory: the GPU's",
    "MemoryError:": "out of memory",
}
RUN_ID = re.compile(r"\b(?=[0-9a-f]*\d)[0-9a-f]{10}\b")
NUMBER = re.compile(r"0x[0-9a-f]+|\d+(?:[.,]\d+)*(?:e[-+]?\d+)?", re.IGNORECASE)


@verb("why")
@words("[SELECTOR | RUN...]", SUBMITTED, takes=defaults.NAMES, offers=(ABLATIONS, RUNS))
def main(line: Line) -> int:
    """Show what kept runs from their end, by cause, with the log's last lines; always 0."""
    chosen = resolve_or_all(line.words)
    states, trouble = chosen.look(functools.partial(ask, timeout_s=PATIENCE_S))
    if trouble:
        print(f"warning: {trouble}; this is what the records say", file=sys.stderr)
    known = chosen.by_id
    groups: dict[tuple[str, str], list[str]] = {}
    for run in known:
        if states[run].name in HINTS:
            groups.setdefault((states[run].name, cause(states[run].full_reason)), []).append(run)
    for name, reason in sorted(groups, key=lambda key: (list(HINTS).index(key[0]), -len(groups[key]))):
        found = [(known[run], states[run]) for run in groups[name, reason]]
        text_table.write([*_describe(chosen, name, reason, found), ""])
    counts = {name: sum(len(runs) for key, runs in groups.items() if key[0] == name) for name in HINTS}
    told = ", ".join(f"{number} {name}" for name, number in counts.items() if number)
    hints = [text for name, text in HINTS.items() if counts[name] and text]
    print("; ".join([f"{text_table.runs(len(known))}: {told or 'none failed or interrupted'}", *hints]))
    return 0


def cause(reason: str) -> str:
    """`reason` without what differs between runs that ended for the same cause."""
    named = next((name for begin, name in CAUSES.items() if reason.startswith(begin)), None)
    return named or NUMBER.sub("#", RUN_ID.sub("RUN", reason))


def _describe(
    chosen: ChosenRuns, name: str, reason: str, found: Sequence[tuple[PlacedRun, RunState]]
) -> list[str]:
    (_, first), *_ = found
    lines = [f"{len(found)} {name}: {reason or 'unknown'}"]
    if first.full_reason != reason:
        lines.append(f"  such as: {first.full_reason}")
    nodes = _counted(state.node for _, state in found)
    steps = sorted(state.step for _, state in found if state.step is not None)
    span = f"{steps[0]} to {steps[-1]}" if len(set(steps)) > 1 else "".join(map(str, steps[:1]))
    lines.append(f"  node: {nodes or 'unknown'}; step: {span or 'none'}")
    rows = [
        [entry.id, entry.label, "" if s.step is None else f"step {s.step}", s.node, s.job]
        for entry, s in found
    ]
    lines += [f"  {line}" for line in text_table.align(("run", "place", "step", "node", "job"), rows)]
    return lines + _evidence(chosen.root, first)


def _counted(words: Iterable[str]) -> str:
    counts = Counter(word for word in words if word)
    return ", ".join(f"{word} ({number})" if number > 1 else word for word, number in counts.most_common())


def _evidence(root: ResultsRoot, state: RunState) -> list[str]:
    """Where the record and the log of a run lie, and the log's last lines."""
    records = state.records
    assert records is not None
    lines = []
    if records.end_name:
        lines.append(f"  record: {records.run.events / records.end_name}")
    if where := (records.ended or {}).get("where"):
        lines.append(f"  at: {where}")
    log = _log(root, state)
    if log is not None:
        said = last_lines(log, LAST_LINES)
        return [*lines, f"  log: {log}", *(f"    | {line}" for line in said)]
    said = str((records.ended or {}).get("traceback", "")).splitlines()[-LAST_LINES:]
    return [*lines, *(f"    | {line}" for line in said)]


def _log(root: ResultsRoot, state: RunState) -> Path | None:
    """What the run printed; where it never began, what its job printed."""
    assert state.records is not None
    if LOG in state.records.names:
        return state.records.run.log_path
    if state.claim is None or not state.job:
        return None
    folder = root.ledger / state.claim.token
    return next(iter(sorted(folder.glob(f"{state.job}_*log.out"))), None)
