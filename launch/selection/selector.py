"""What a command line selects, for verbs about runs that exist: run ids, submitted tables, or overrides.

Tables that were submitted and run ids are looked up in the results folder, which takes no composition;
everything else is composed as `vocl plan` does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from launch.run_states.states import RunState, look, with_sources
from launch.selection.submitted import PlacedRun, SubmittedTable, is_word, read_table, root_in, tables
from launch.slurm.job_states import Asker, ask
from vocl.config.grammar import key_of, setting
from vocl.errors import UnknownChoice, UserError
from vocl.rundir.results_root import ResultsRoot

if TYPE_CHECKING:  # boards read the results folder alone, in a fraction of a second
    from launch.selection.plan import Selection

OUTSIDE, OF_IDS = "runs outside of any ablation", "runs by their ids"
# beside tables and run ids these and the cluster say where and how, not which
BESIDE = ("runtime.root=", "seed=", "project=")


@dataclass(frozen=True)
class ChosenRuns:
    """The runs of a command line under `root` (absolute), by title of the group."""

    root: ResultsRoot
    groups: dict[str, list[PlacedRun]]
    name: str | None  # of the submitted table, where it is one
    arguments: tuple[str, ...]  # by which `plan.select` finds the same runs; () for run ids
    selection: Selection | None  # where it had to be composed

    @property
    def entries(self) -> list[PlacedRun]:
        """All places; ids may repeat."""
        return [entry for group in self.groups.values() for entry in group]

    @cached_property
    def by_id(self) -> dict[str, PlacedRun]:
        """Runs by id, each with the first of its places."""
        found: dict[str, PlacedRun] = {}
        for entry in self.entries:
            found.setdefault(entry.id, entry)
        return found

    @property
    def runs(self) -> list[str]:
        """Run ids, each once."""
        return list(self.by_id)

    def look(self, asked: Asker = ask) -> tuple[dict[str, RunState], str]:
        """The state of each run and what kept SLURM from answering."""
        sources = {entry.id: entry.after for entry in self.entries if entry.after}
        states, trouble = look(self.root, [*self.by_id, *sources.values()], asked)
        return with_sources(states, sources), trouble


def resolve(arguments: Sequence[str], *, compose: bool = True) -> ChosenRuns:
    """The runs that `arguments` name: submitted tables, run ids or beginnings of ids, with seed=... those
    of these seeds; or what `plan.select` takes (unless `compose` is false), with runtime.root=PATH.

    Raises `UserError` where they name nothing.
    """
    if not any(_selects(argument) for argument in arguments):
        raise UserError("no selector: give run ids, an ablation's name, or Hydra overrides")
    root = results_root(arguments)
    plain = [a.removeprefix("ablation=") for a in arguments]
    words = [a for a in plain if is_word(a)]
    known = {word: _known(root, word) for word in words}
    unknown = next((word for word in words if known[word] is None), None)
    if unknown and not compose:
        raise UserError(
            f"{unknown}: no ablation that was submitted, and no run in {root.runs_path} begins so"
        )
    if words and not unknown and all(_is_beside(a) for a in plain if not is_word(a)):
        return _stored(root, {word: table for word, table in known.items() if table}, _seeds(plain))
    try:
        return _composed(arguments)
    except UnknownChoice as error:
        if error.name == unknown:
            raise UserError(f"{unknown}: no run under {root.runs_path} begins so, and {error}") from None
        raise


def resolve_or_all(arguments: Sequence[str], *, compose: bool = True) -> ChosenRuns:
    """As `resolve`; all there are, by table, where nothing is selected."""
    if any(map(_selects, arguments)):
        return resolve(arguments, compose=compose)
    root = results_root(arguments)
    groups = {}
    for name, table in tables(root).items():
        damaged = "" if table else f" (damaged record: by-name/{name}/selection.json)"
        groups[f"ablation {name}{damaged}"] = table.entries if table else []
    inside = {entry.id for entries in groups.values() for entry in entries}
    outside = [PlacedRun("", "", None, run) for run in root.run_ids() if run not in inside]
    return ChosenRuns(root, groups | ({OUTSIDE: outside} if outside else {}), None, (), None)


def of_selection(chosen: Selection) -> ChosenRuns:
    """What was composed, as a target."""
    entries = [PlacedRun(s.row, s.column, s.seed, s.id, s.after) for s in chosen.specs]
    name = chosen.ablation.name if chosen.ablation else None
    title = " ".join(a for a in chosen.arguments if not a.startswith("runtime.root="))
    return ChosenRuns(chosen.root.absolute(), {title: entries}, name, chosen.arguments, chosen)


def _composed(arguments: Sequence[str]) -> ChosenRuns:
    from launch.selection.plan import select

    return of_selection(select(arguments))


def _seeds(arguments: Sequence[str]) -> list[int] | None:
    if not any(argument.startswith("seed=") for argument in arguments):
        return None
    from launch.selection.plan import seeds_in

    return seeds_in(arguments)


def results_root(overrides: Iterable[str]) -> ResultsRoot:
    """runtime.root of the overrides, or the default; absolute."""
    return root_in(overrides)[0].absolute()


def _selects(argument: str) -> bool:
    """Whether an argument says which runs, and not only where they are."""
    return argument.startswith("seed=") or not _is_beside(argument)


def _is_beside(argument: str) -> bool:
    # What adds to the cluster or takes from it chooses no runs; ++seed=3 does, and is left to Hydra.
    return argument.startswith(BESIDE) or key_of(argument).partition(".")[0] == "cluster"


def _known(root: ResultsRoot, word: str) -> SubmittedTable | None:
    """What `word` stands for under `root`, without composing anything."""
    table = read_table(root, word)
    if table is not None or not any(run.startswith(word) for run in root.run_ids()):
        return table
    run = root.find(word)
    saved = run.config_path.read_text(errors="replace") if run.has_config() else ""
    seed = re.search(r"^seed: (\d+)$", saved, re.MULTILINE)
    return SubmittedTable(None, [PlacedRun("", "", int(seed[1]) if seed else None, run.id)], ())


def _stored(root: ResultsRoot, known: dict[str, SubmittedTable], seeds: list[int] | None) -> ChosenRuns:
    """The tables and runs `known`, those of `seeds` alone if given."""
    groups: dict[str, list[PlacedRun]] = {}
    for table in known.values():
        title = f"ablation {table.name}" if table.name else OF_IDS
        groups[title] = groups.get(title, []) + [e for e in table.entries if seeds is None or e.seed in seeds]
    (first, *others) = known.values()
    name, arguments = (None, ()) if others else (first.name, first.arguments)
    if seeds is not None:
        arguments = tuple(a for a in arguments if not a.startswith("seed="))
        arguments += (f"seed={','.join(map(str, seeds))}",) if name else ()
        found = {entry.seed for group in groups.values() for entry in group}
        if missing := [seed for seed in seeds if seed not in found]:
            if not name:
                raise UserError(f"seed={missing[0]}: {', '.join(known)}: no run of this seed")
            return _composed((*arguments, setting("runtime.root", root.path)))  # not submitted yet
    return ChosenRuns(root, groups, name, arguments, None)
