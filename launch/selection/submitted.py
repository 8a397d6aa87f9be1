"""What a results folder says of submitted tables, and where it is; composes nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

from launch.escape import one_line
from vocl.config.grammar import text_of
from vocl.errors import UserError
from vocl.files import Kinds, holds, is_there, record_or_none, user_path
from vocl.rundir.claims import WORD

ROOT = "results"  # as in conf/runtime/default.yaml
SELECTION: Kinds = {"arguments": list, "runs": list}
ROW: Kinds = {"row": str, "column": str, "seed": (int, NoneType), "id": str, "after": (str, NoneType)}


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
        return one_line(", ".join(part for part in (self.row, self.column, seed) if part))

    @property
    def told(self) -> str:
        """Id and label, for lines about one run."""
        return f"{self.id} ({self.label})"


@dataclass(frozen=True)
class Table:
    """An ablation as it was submitted last: its runs, and the words of the `vocl submit`. Without a name,
    runs that were given by their ids."""

    name: str | None
    entries: list[Entry]
    arguments: tuple[str, ...]


def root_of(arguments: Iterable[str]) -> tuple[Path, list[str]]:
    """The results folder that `runtime.root=PATH` says, and the other arguments."""
    given = [a.partition("=")[2] for a in arguments if a.startswith("runtime.root=")]
    rest = [a for a in arguments if not a.startswith("runtime.root=")]
    root = text_of(given[-1]) if given else ROOT
    if not root:
        raise UserError("runtime.root=: empty, give a folder")
    folder = user_path(root)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"runtime.root={root}: not a folder")
    return folder, rest


def is_word(argument: str) -> bool:
    """Whether an argument is a name or an id, not an override or an option."""
    return "=" not in argument and argument[:1] not in ("-", "+", "~", "")


def read_table(root: Path, name: str) -> Table | None:
    """What was submitted last as ablation `name`, if it was; raises `UserError` where that is damaged."""
    name = name.lstrip("/")
    path = root / "by-name" / name / "selection.json"
    if ".." in Path(name).parts:
        return None
    found = submitted(path)
    if found is None and not is_there(path):
        return None
    if found is None:
        raise UserError(f"{path}: damaged; vocl submit {name} writes it again")
    entries = [Entry(r["row"], r["column"], r["seed"], r["id"], r["after"]) for r in found["runs"]]
    return Table(name, entries, tuple(found["arguments"]))


def submitted(path: Path) -> dict[str, Any] | None:
    """What the file says that `vocl submit` wrote of a table: its `arguments` and `runs`, a row per
    place; None where there is none that can be read."""
    found = record_or_none(path, SELECTION)
    if found is None or not all(holds(row, ROW) for row in found["runs"]):
        return None
    found["runs"] = [dict.fromkeys(ROW) | row for row in found["runs"]]
    ids = [run for row in found["runs"] for run in (row["id"], row["after"]) if run is not None]
    is_whole = all(map(WORD.fullmatch, ids)) and all(isinstance(word, str) for word in found["arguments"])
    return found if is_whole else None


def tables(root: Path) -> dict[str, Table | None]:
    """All that were submitted, by name; None for what cannot be read."""
    found: dict[str, Table | None] = {}
    for name in _names(root / "by-name"):
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
