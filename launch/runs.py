"""Which runs a command line means, read from the results folder; composes for overrides alone."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import NoneType
from typing import Any

from launch.states import Asker, RunState, ask, look, with_sources
from vocl.errors import UserError
from vocl.files import holds, record_or_none, user_path
from vocl.find import all_runs, find_run

ROOT = "results"  # as in conf/runtime/default.yaml
SELECTION = {"arguments": list, "runs": list}
ROW = {"row": str, "column": str, "seed": (int, NoneType), "id": str, "after": (str, NoneType)}
OUTSIDE = "runs outside of any ablation"


@dataclass(frozen=True)
class Entry:
    """A run, and the place in a table that wants it; the same run may have several."""

    row: str
    column: str
    seed: int | None
    id: str
    after: str | None = None  # id of the run whose weights it starts from

    @property
    def label(self) -> str:
        """How people are told about it."""
        seed = "" if self.seed is None else f"seed {self.seed}"
        return ", ".join(part for part in (self.row, self.column, seed) if part)

    @property
    def told(self) -> str:
        """Id and label, for lines about one run."""
        return f"{self.id} ({self.label})"


@dataclass(frozen=True)
class Chosen:
    """What a command line chose under `root`: entries by title of the group."""

    root: Path
    groups: dict[str, list[Entry]]

    @cached_property
    def runs(self) -> dict[str, Entry]:
        """Runs by id, each with the first of its places."""
        found: dict[str, Entry] = {}
        for entry in self._all:
            found.setdefault(entry.id, entry)
        return found

    @property
    def _all(self) -> list[Entry]:
        return [entry for group in self.groups.values() for entry in group]

    def look(self, asked: Asker = ask) -> tuple[dict[str, RunState], str]:
        """The state of each run and what kept SLURM from answering."""
        sources = {entry.id: entry.after for entry in self._all if entry.after}
        states, trouble = look(self.root, [*self.runs, *sources.values()], asked)
        return with_sources(states, sources), trouble


def root_of(arguments: Iterable[str]) -> tuple[Path, list[str]]:
    """The results folder that `runtime.root=PATH` says, and the other arguments."""
    given = [a.partition("=")[2] for a in arguments if a.startswith("runtime.root=")]
    rest = [a for a in arguments if not a.startswith("runtime.root=")]
    root = given[-1] if given else ROOT
    if len(root) > 1 and root[0] == root[-1] and root[0] in "'\"":  # as Hydra's grammar takes them
        root = root[1:-1]
    if not root:
        raise UserError("runtime.root=: empty, give a folder")
    folder = user_path(root)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"runtime.root={root}: not a folder")
    return folder, rest


def choose(arguments: Sequence[str], compose: bool = True) -> Chosen:
    """The runs of an ablation NAME as it was last submitted, those with given ids (or beginnings of
    ids), those of overrides (unless `compose` is false), or all that there are."""
    root, rest = root_of(arguments)
    for option in (a for a in rest if a.startswith("-")):
        raise UserError(f"{option}: no such option of this verb")
    if not rest:
        return everything(root)
    names = [a.removeprefix("ablation=") for a in rest if "=" not in a or a.startswith("ablation=")]
    known = {name: _known(root, name) for name in names}
    if not compose and (unknown := next((name for name in names if not known[name]), None)):
        raise UserError(f"{unknown}: no ablation that was submitted, and no run in {root}/runs begins so")
    if len(names) < len(rest) or not all(known.values()):
        return _composed(root, arguments, names)
    groups: dict[str, list[Entry]] = {}
    for name, entries in known.items():
        title = f"ablation {name}" if _table(root, name) else "runs"
        groups[title] = groups.get(title, []) + (entries or [])
    return Chosen(root, groups)


def everything(root: Path) -> Chosen:
    """All tables under by-name, and the runs outside of them."""
    tables = {}
    for name in _names(root / "by-name"):
        known = _table(root, name)
        damaged = "" if known is not None else f" (damaged record: by-name/{name}/selection.json)"
        tables[f"ablation {name}{damaged}"] = known or []
    inside = {entry.id for entries in tables.values() for entry in entries}
    outside = [Entry("", "", None, run) for run in all_runs(root) if run not in inside]
    return Chosen(root, tables | ({OUTSIDE: outside} if outside else {}))


def _known(root: Path, name: str) -> list[Entry] | None:
    """What `name` stands for under `root`, without composing anything."""
    table = _table(root, name)
    if table is not None or not any(run.startswith(name) for run in all_runs(root)):
        return table
    return [Entry("", "", None, find_run(name, root).name)]


def _table(root: Path, name: str) -> list[Entry] | None:
    """What was submitted last as ablation `name`."""
    found = submitted(root / "by-name" / name / "selection.json")
    if found is None:
        return None
    return [Entry(r["row"], r["column"], r["seed"], r["id"], r.get("after")) for r in found["runs"]]


def submitted(path: Path) -> dict[str, Any] | None:
    """What the file says that `vocl submit` wrote of a table: its `arguments` and `runs`, a row per
    place; None where there is none that can be read."""
    found = record_or_none(path, SELECTION)
    return found if found is not None and all(holds(row, ROW) for row in found["runs"]) else None


def _names(folder: Path, prefix: str = "") -> list[str]:
    """Names of the tables in `folder`; a name may have slashes."""
    try:
        entries = sorted(e.name for e in os.scandir(folder) if e.is_dir(follow_symlinks=False))
    except OSError:
        return []
    names = []
    for entry in entries:
        if (folder / entry / "selection.json").is_file():
            names.append(f"{prefix}{entry}")
        else:
            names += _names(folder / entry, f"{prefix}{entry}/")
    return names


def _composed(root: Path, arguments: Sequence[str], names: Sequence[str]) -> Chosen:
    """What the files in conf/ say now."""
    from launch.plan import select

    try:
        chosen = select(arguments)
    except UserError as error:
        unknown = [name for name in names if not _known(root, name)]
        if unknown and f"={unknown[0]}: no such choice" in str(error):
            raise UserError(f"{unknown[0]}: no run under {root}/runs begins so, and {error}") from None
        raise
    entries = [Entry(s.row, s.column, s.seed, s.id, s.after) for s in chosen.specs]
    words = " ".join(a for a in arguments if not a.startswith("runtime.root="))
    return Chosen(chosen.root, {words: entries})
