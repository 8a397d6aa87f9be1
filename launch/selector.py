"""What a command line selects, for verbs about runs that exist: run ids, a submitted name, or overrides.

A name that was submitted and run ids are looked up in the results folder, which takes no composition;
everything else is composed as `vocl plan` does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from launch.plan import Selection, is_word, select
from launch.runs import Entry, root_of
from vocl.errors import UserError
from vocl.find import all_runs, find_run

ID = re.compile(r"[0-9a-f]{4,10}")  # a run id, or its beginning


@dataclass(frozen=True)
class Target:
    """The runs of a command line under `root` (absolute); ids may repeat, `runs` has each once."""

    root: Path
    entries: list[Entry]
    name: str | None  # of the submitted table
    arguments: tuple[str, ...]  # by which `plan.select` finds the same runs; () for run ids
    selection: Selection | None  # where it had to be composed

    @property
    def runs(self) -> list[str]:
        """Run ids, each once."""
        return list(dict.fromkeys(entry.id for entry in self.entries))


def resolve(arguments: Sequence[str]) -> Target:
    """The runs that `arguments` name: run ids, the name of a submitted table (with seed=... a part of
    it), or what `plan.select` takes; beside all of them runtime.root=PATH."""
    if not arguments:
        raise UserError("no selector: give run ids, an ablation's name, or Hydra overrides")
    plain = [a.removeprefix("ablation=") for a in arguments]
    words = [a for a in plain if is_word(a)]
    others = [a for a in plain if not is_word(a)]
    root = results_root(others)
    seeds = [a.partition("=")[2] for a in others if a.startswith("seed=")]
    few = all(a.startswith(("runtime.root=", "seed=", "project=", "cluster=", "cluster.")) for a in others)
    if words and few:
        found = [_by_id(root, word) for word in words]
        if all(found) and not seeds:
            return Target(root, [entry for entry in found if entry], None, (), None)
        stored = root / "by-name" / words[0] / "selection.json"
        if len(words) == 1 and stored.is_file():
            target = read(root, words[0])
            wanted = [int(s) for text in seeds for s in text.split(",") if s.isdigit()]
            if not seeds:
                return target
            entries = [entry for entry in target.entries if entry.seed in wanted]
            if {entry.seed for entry in entries} == set(wanted):
                kept = [a for a in target.arguments if not a.startswith("seed=")]
                return Target(root, entries, target.name, (*kept, f"seed={seeds[-1]}"), None)
    return of_selection(select(arguments))


def of_selection(chosen: Selection) -> Target:
    """What was composed, as a target."""
    entries = [Entry(s.row, s.column, s.seed, s.id, s.after) for s in chosen.specs]
    name = chosen.ablation.name if chosen.ablation else None
    return Target(chosen.root.absolute(), entries, name, chosen.arguments, chosen)


def read(root: Path, name: str) -> Target:
    """What the last `vocl submit` of table `name` selected."""
    path = root / "by-name" / name / "selection.json"
    try:
        content = json.loads(path.read_text())
        entries = [Entry(**row) for row in content["runs"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: cannot be read: {error}; vocl submit writes it again") from None
    return Target(root, entries, name, tuple(content["arguments"]), None)


def results_root(overrides: Iterable[str]) -> Path:
    """runtime.root of the overrides, or the default; absolute."""
    return root_of(overrides)[0].absolute()


def _by_id(root: Path, word: str) -> Entry | None:
    """The run whose id is, or alone begins with, `word`."""
    if not ID.fullmatch(word) or not any(run.startswith(word) for run in all_runs(root)):
        return None
    folder = find_run(word, root)
    config = folder / "config.yaml"
    seed = re.search(r"^seed: (\d+)$", config.read_text(), re.MULTILINE) if config.is_file() else None
    return Entry("", "", int(seed[1]) if seed else None, folder.name)
