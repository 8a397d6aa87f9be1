"""Where config groups lie, and the packages that a config may name classes of. Imports no torch."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from vocl.config.proof.classes import Packages
from vocl.errors import UserError
from vocl.files import user_path

VOCL = Path(__file__).resolve().parents[1]
CONF = VOCL / "conf" if (VOCL / "conf").is_dir() else VOCL.parent / "conf"  # in a wheel, in a checkout


def conf_folders(project: str | None) -> list[Path]:
    """The folders that config groups lie in: vocl's own, and that of a project."""
    return [CONF, *([user_path(project) / "conf"] if project else [])]


def packages(project: str | None) -> Packages:
    """Packages that may define a `_target_`, with their folders: vocl, and those of `project`."""
    allowed = {"vocl": VOCL}
    if project is not None:
        folder = user_path(project).resolve()
        if not folder.is_dir():
            raise UserError(f"project={project}: no such folder")
        found = {p.parent.name: p.parent for p in folder.glob("[!.]*/__init__.py")}
        if not found and not (folder / "conf").is_dir():
            what = "holds no Python package (a folder with an __init__.py) and no conf/"
            raise UserError(f"project={project}: {what}")
        for name, path in found.items():
            spec = importlib.util.find_spec(name)
            if spec is not None and spec.origin and Path(spec.origin).resolve().parent != path:
                raise UserError(f"project={project}: its package {name!r} has the name of an installed one")
        allowed |= found
    return Packages(allowed)
