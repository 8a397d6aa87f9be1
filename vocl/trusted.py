"""Whose run a folder is: one from elsewhere is data, and brings neither code nor links. Imports no torch."""

from __future__ import annotations

import os
from pathlib import Path

from vocl import config as configs
from vocl.config import Config
from vocl.errors import UserError
from vocl.files import user_path
from vocl.find import find_run
from vocl.yaml_text import read_saved


def trusted_run(run: str, root: str) -> Path:
    """The folder of `run`, as `find_run` names it, unless it is one whose code may not be imported."""
    here = user_path(root)
    folder = find_run(run, here)
    if folder.resolve().parent != (here / "runs").resolve():
        _refuse_foreign(folder, here / "runs")
    return folder


def _refuse_foreign(folder: Path, runs: Path) -> None:
    """A run folder from elsewhere may not bring its own list of code that may be imported, nor links
    by which what is written into it would land elsewhere."""
    if read_config(folder, check=False)["project"] is not None:
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


def read_config(path: Path, check: bool = True) -> Config:
    """The config a run was saved with (its folder, or a config file), in today's keys and checked."""
    path = path / "config.yaml" if path.is_dir() else path
    saved = read_saved(path)
    if not isinstance(saved, dict):
        raise UserError(f"{path}: not the config of a run")
    try:
        return configs.check(configs.migrate(saved)) if check else {"project": None, **saved}
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
