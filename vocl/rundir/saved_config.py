"""Whose run a folder is: one from elsewhere is data, and brings neither code nor links. Imports no torch."""

from __future__ import annotations

import os
from pathlib import Path

from vocl.config.check import check
from vocl.config.migrate import migrate
from vocl.config.run_config import RunConfig
from vocl.config.schema import Config
from vocl.config.yaml_text import read_saved
from vocl.errors import UserError
from vocl.files import user_path
from vocl.rundir.find import find_run


def trusted_run(run: str, root: str) -> Path:
    """The folder of `run`, as `find_run` names it, unless it is one whose code may not be imported."""
    here = user_path(root)
    folder = find_run(run, here)
    if is_foreign(folder, root):
        _refuse_foreign(folder, here / "runs")
    return folder


def is_foreign(folder: Path, root: str) -> bool:
    """Whether the run in `folder` is none of the results folder `root`."""
    return folder.resolve().parent != (user_path(root) / "runs").resolve()


def _refuse_foreign(folder: Path, runs: Path) -> None:
    """A run folder from elsewhere may not bring its own list of code that may be imported, nor links
    by which what is written into it would land elsewhere."""
    if _saved(folder / "config.yaml").get("project") is not None:
        raise UserError(
            f"{folder}/config.yaml: names code of its own (project); if you trust it, move it to {runs}"
        )
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            if os.path.islink(os.path.join(place, name)):
                raise UserError(
                    f"{place}/{name}: is a link; a run folder from elsewhere may have none, "
                    f"if you trust it, move it to {runs}"
                )


def read_config(path: Path) -> RunConfig:
    """The config a run was saved with (its folder, or a config file), in today's keys and checked."""
    path = path / "config.yaml" if path.is_dir() else path
    saved = _saved(path)
    try:
        return check(migrate(saved))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _saved(path: Path) -> Config:
    saved = read_saved(path)
    if not isinstance(saved, dict):
        raise UserError(f"{path}: not the config of a run")
    return saved


def config_of_today(folder: Path) -> Config:
    """The saved config of a run in today's keys, not checked; as it stands where that is damaged."""
    saved = raw_config(folder)
    try:
        return migrate(saved)
    except (UserError, KeyError, TypeError, AttributeError):
        return saved


def raw_config(folder: Path) -> Config:
    """The saved config of a run as it stands; empty where it has none that can be read."""
    try:
        content = read_saved(folder / "config.yaml")
    except UserError:
        return {}
    return content if isinstance(content, dict) else {}
