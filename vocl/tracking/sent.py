"""To which other places than its config says a run's client folders were uploaded: <run>/wandb/sent.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vocl.files import json_or_none, write_json
from vocl.rundir.run_dir import RunDir


def is_synced(path: Path) -> bool:
    """Whether the client has uploaded its folder `path`."""
    return any(path.glob("*.wandb.synced"))


def is_sent(run: RunDir, path: Path, place: Mapping[str, Any]) -> bool:
    """Whether the client's folder `path` was uploaded to `place`: {} where the run's config says."""
    if not place:
        return is_synced(path)
    return _name(place) in _read(run).get(path.name, [])


def write(run: RunDir, path: Path, place: Mapping[str, Any]) -> None:
    """Say that the folder `path` was uploaded to `place`."""
    if place:
        places = _read(run)
        write_json(_path(run), places | {path.name: [*places.get(path.name, []), _name(place)]})


def _read(run: RunDir) -> dict[str, list[str]]:
    """{folder: places}; a damaged file counts as none: W&B takes a run twice, and has it once."""
    found = json_or_none(_path(run)) or {}
    return {folder: places for folder, places in found.items() if isinstance(places, list)}


def _name(place: Mapping[str, Any]) -> str:
    return f"{place.get('wandb_entity') or ''}/{place.get('wandb_project') or ''}"


def _path(run: RunDir) -> Path:
    return run.wandb / "sent.json"
