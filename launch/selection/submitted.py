"""What a results folder says of submitted tables, and where it is; composes nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import NoneType
from typing import Any

from launch.escape import one_line
from vocl.config.grammar import text_of
from vocl.errors import UserError
from vocl.files import Kinds, holds, is_there, record_or_none
from vocl.rundir.claims import WORD
from vocl.rundir.results_root import ResultsRoot

ROOT = "results"  # as in conf/runtime/default.yaml
ROW: Kinds = {"row": str, "column": str, "seed": (int, NoneType), "id": str, "after": (str, NoneType)}


@dataclass(frozen=True)
class PlacedRun:
    """A run, and the place in a table that wants it; the same run may have several."""

    row: str
    column: str
    seed: int | None
    id: str
    after: str | None = None  # id of the run whose weights it starts from

    @property
    def label(self) -> str:
        """Row, column and seed, for people."""
        seed = "" if self.seed is None else f"seed {self.seed}"
        return one_line(", ".join(part for part in (self.row, self.column, seed) if part))

    @property
    def described(self) -> str:
        """Id and label, for lines about one run."""
        return f"{self.id} ({self.label})"


@dataclass(frozen=True)
class Submitted:
    """What selection.json of a table holds: the words of the `vocl submit`, and a row (`ROW`) per place."""

    arguments: list[str]
    runs: list[dict[str, Any]]


SUBMITTED: Kinds = {field.name: list for field in fields(Submitted)}


@dataclass(frozen=True)
class SubmittedTable:
    """An ablation as it was submitted last: its runs, and the words of the `vocl submit`. Without a name,
    runs that were given by their ids."""

    name: str | None
    entries: list[PlacedRun]
    arguments: tuple[str, ...]


def root_in(arguments: Iterable[str]) -> tuple[ResultsRoot, list[str]]:
    """The results folder that `runtime.root=PATH` says, and the other arguments."""
    given = [a.partition("=")[2] for a in arguments if a.startswith("runtime.root=")]
    rest = [a for a in arguments if not a.startswith("runtime.root=")]
    root = text_of(given[-1]) if given else ROOT
    if not root:
        raise UserError("runtime.root=: empty, give a folder")
    found = ResultsRoot.of(root)
    if found.path.exists() and not found.path.is_dir():
        raise UserError(f"runtime.root={root}: not a folder")
    return found, rest


def is_word(argument: str) -> bool:
    """Whether an argument is a name or an id, not an override or an option."""
    return "=" not in argument and argument[:1] not in ("-", "+", "~", "")


def read_table(root: ResultsRoot, name: str) -> SubmittedTable | None:
    """What was submitted last as ablation `name`, if it was; raises `UserError` where that is damaged."""
    name = name.lstrip("/")
    path = root.by_name / name / "selection.json"
    if ".." in Path(name).parts:
        return None
    found = read_submitted(path)
    if found is None and not is_there(path):
        return None
    if found is None:
        raise UserError(f"{path}: damaged; vocl submit {name} writes it again")
    entries = [PlacedRun(r["row"], r["column"], r["seed"], r["id"], r["after"]) for r in found.runs]
    return SubmittedTable(name, entries, tuple(found.arguments))


def read_submitted(path: Path) -> Submitted | None:
    """What `vocl submit` wrote of a table; None where there is nothing that can be read."""
    content = record_or_none(path, SUBMITTED)
    if content is None:
        return None
    found = Submitted(**{key: content[key] for key in SUBMITTED})
    if not all(holds(row, ROW) for row in found.runs):
        return None
    rows = [dict.fromkeys(ROW) | row for row in found.runs]
    ids = [run for row in rows for run in (row["id"], row["after"]) if run is not None]
    is_whole = all(map(WORD.fullmatch, ids)) and all(isinstance(word, str) for word in found.arguments)
    return replace(found, runs=rows) if is_whole else None


def spelt(table: Submitted) -> str:
    """The content of the file that says so."""
    return json.dumps(asdict(table), indent=1) + "\n"


def tables(root: ResultsRoot) -> dict[str, SubmittedTable | None]:
    """All that were submitted, by name; None for what cannot be read."""
    found: dict[str, SubmittedTable | None] = {}
    for name in _names(root.by_name):
        try:
            found[name] = read_table(root, name)
        except UserError:
            found[name] = None
    return found


def _names(folder: Path, prefix: str = "") -> list[str]:
    """Names of the tables in `folder`; a name may have slashes."""
    try:
        entries = sorted(e.name for e in os.scandir(folder) if e.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return []
    except OSError:
        return [prefix.rstrip("/")] if prefix else []
    names = []
    for entry in entries:
        if is_there(folder / entry / "selection.json"):
            names.append(f"{prefix}{entry}")
        else:
            names += _names(folder / entry, f"{prefix}{entry}/")
    return names
