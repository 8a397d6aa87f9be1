"""Which folders of W&B's client are finished, and what they hold: <run>/wandb/sealed.json."""

from __future__ import annotations

import shutil
from types import NoneType
from typing import Any

from vocl.files import Kinds, holds, json_or_none, write_json
from vocl.rundir.run_dir import RunDir
from vocl.tracking.client import Known

KINDS: Kinds = {
    "step": int,  # of its last row
    "evals": (list, NoneType),
    "scores": (str, NoneType),  # their digest
    "pictures": (bool, NoneType),
    "files": (list, NoneType),  # names of checkpoints
}


def sealed(run: RunDir) -> dict[str, dict[str, Any]]:
    """Finished folders of the client for `run`, by name.

    Where that is damaged none counts as finished: all of it is written again, from the records."""
    found = json_or_none(run.wandb / "sealed.json") or {}
    return found if all(holds(entry, KINDS) for entry in found.values()) else {}


def last_sealed(run: RunDir) -> int:
    """The last step that a finished folder of the client holds; -1 for none."""
    return max((entry["step"] for entry in sealed(run).values()), default=-1)


def known(run: RunDir) -> Known:
    """What the finished folders hold between them."""
    entries = sealed(run).values()
    files = {str(name) for entry in entries for name in entry.get("files") or ()}
    pictures = any(entry.get("pictures") for entry in entries)
    return Known(step=last_sealed(run), pictures=pictures, files=frozenset(files))


def seal(run: RunDir, folder: str, entry: dict[str, Any]) -> None:
    """Say that the client's folder `folder` is finished and what it holds."""
    write_json(run.wandb / "sealed.json", sealed(run) | {folder: entry})


def drop_unsealed(run: RunDir, pattern: str) -> None:
    """Remove folders that were never sealed: what they held is written again, from the records."""
    known = sealed(run)
    for path in run.wandb.glob(pattern):
        if path.name not in known and not any(path.glob("*.synced")):
            shutil.rmtree(path, ignore_errors=True)
