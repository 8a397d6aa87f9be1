"""What a search has tried so far: a record per trial, from which, with the records of runs, all follows.

    <runtime.root>/search/<name>/
      search.json         what was declared as it began, and the words of the command
      trials/NNNN.json    trial n: what its runs are, and up to which rung they are to train
      lock                held by the process that decides about the search

A trial's record appears before its runs are claimed: a process that is killed in between leaves a trial
whose runs are absent, which the next call hands over.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from launch.selection.submitted import Submitted, spelt
from vocl.errors import UserError
from vocl.files import (
    Kinds,
    holds,
    make_folder,
    open_plain,
    record_or_none,
    refuse_planted,
    write_json,
    write_text,
)
from vocl.rundir.claims import WORD
from vocl.rundir.lock import is_free
from vocl.rundir.results_root import ResultsRoot

BEGUN: Kinds = {"arguments": list, "declared": dict}
TRIAL: Kinds = {"number": int, "params": dict, "overrides": list, "run_ids": dict, "rung": int}


class SearchIsTaken(UserError):
    """Another process works on the search at this moment."""


@dataclass(frozen=True)
class Trial:
    """Trial `number`: `params` by key (choices in the grammar of overrides), all of its `overrides`, its
    `run_ids` by seed, and the `rung`, an index into the steps of the search, up to which they train."""

    number: int
    params: dict[str, Any]
    overrides: list[str]
    run_ids: dict[str, str]
    rung: int

    @property
    def words(self) -> list[str]:
        """What it tries, as overrides."""
        return [f"{key}={value}" for key, value in self.params.items()]

    @property
    def label(self) -> str:
        """For people."""
        return f"trial {self.number}: {' '.join(self.words)}"


@dataclass(frozen=True)
class SearchRecords:
    """The records of the search `name` under `root`."""

    root: ResultsRoot
    name: str

    @property
    def folder(self) -> Path:
        """Where they lie."""
        return self.root.searches / self.name

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within the block this process alone decides. Raises `UserError` where another one does."""
        refuse_planted(self.root.searches)
        make_folder(self.folder)
        with open_plain(self.folder / "lock", "a+") as lock:
            if not is_free(lock):
                lock.seek(0)
                holder = lock.read().strip() or "another process"
                raise SearchIsTaken(f"{self.folder}: this search is being worked on already, by {holder}")
            lock.truncate(0)
            lock.write(f"process {os.getpid()} on {os.uname().nodename}\n")
            lock.flush()
            yield
            fcntl.lockf(lock, fcntl.LOCK_UN)

    def begun(self) -> tuple[list[str], dict[str, Any]] | None:
        """The words by which it began, and what was declared then; None before."""
        path = self.folder / "search.json"
        found = record_or_none(path, BEGUN)
        if found is None and path.exists():
            raise UserError(f"{path}: damaged; restore it, or remove {self.folder} to begin again")
        return None if found is None else (found["arguments"], found["declared"])

    def begin(self, arguments: list[str], declared: dict[str, Any]) -> None:
        """Write that down."""
        write_json(self.folder / "search.json", {"arguments": arguments, "declared": declared})

    def trials(self) -> list[Trial]:
        """All of them, by number. Raises `UserError` where one cannot be read: a trial that is not counted
        would be tried again."""
        found = []
        for path in sorted((self.folder / "trials").glob("[0-9]*.json")):
            content = record_or_none(path, TRIAL)
            if not holds(content, TRIAL) or not all(map(_is_id, content["run_ids"].values())):
                raise UserError(f"{path}: damaged; restore it, or remove it to forget the trial")
            found.append(Trial(**{key: content[key] for key in TRIAL}))
        return found

    def write(self, trial: Trial) -> None:
        """Write a trial's record: a new one, or one whose runs are to train further."""
        write_json(self.folder / "trials" / f"{trial.number:04d}.json", asdict(trial))

    def publish(self, trials: list[Trial]) -> None:
        """Have the verbs about runs know them as search/<name>."""
        runs = [
            {"row": trial.label, "column": "", "seed": int(seed), "id": run, "after": None}
            for trial in trials
            for seed, run in trial.run_ids.items()
        ]
        for place in (self.root.by_name, self.root.by_name / "search"):
            refuse_planted(place)
        write_text(self.root.by_name / "search" / self.name / "selection.json", spelt(Submitted([], runs)))


def _is_id(run: Any) -> bool:
    return isinstance(run, str) and WORD.fullmatch(run) is not None
