"""Which runs a results folder has, and which of them a word means."""

from __future__ import annotations

import os
from pathlib import Path

from vocl.errors import UserError
from vocl.files import user_path

SHOWN = 8  # ids in a message


def all_runs(root: Path) -> list[str]:
    """Ids of the runs that have a folder; raises `OSError` where that cannot be read."""
    try:
        return sorted(e.name for e in os.scandir(root / "runs") if e.name[0] != "." and _is_folder(e))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # somebody has to see to it
        return True


def find_run(word: str, root: Path) -> Path:
    """The folder of the run that `word` names: an id under `root`, the beginning of one alone, or a
    run's folder. An id goes before a folder of that name, such as an export made here.

    Raises `UserError` with what there is.
    """
    known = all_runs(root)
    found = [run for run in known if run == word] or [run for run in known if word and run.startswith(word)]
    if len(found) == 1:
        return root / "runs" / found[0]
    if found:
        raise UserError(f"{word}: several runs begin so: {', '.join(found)}")
    folder = user_path(word)
    if word and (folder / "config.yaml").is_file():
        return folder
    more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
    there = (", ".join(known[:SHOWN]) or "none") + more
    raise UserError(f"{word}: neither a run folder nor a run id in {root}/runs; there are {there}")
