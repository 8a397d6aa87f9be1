"""Where a run ran, and on what code."""

from __future__ import annotations

import functools
import hashlib
import logging
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from vocl.config.folders import packages
from vocl.files import json_or_none
from vocl.rundir import git, source_files

logger = logging.getLogger(__name__)
REPOSITORY = Path(__file__).resolve().parents[2]
SNAPSHOT = "snapshot.json"  # lies in a copy of the code, and says what it is a copy of
CODE = ("vocl", "launch", "hydra_plugins", "pyproject.toml")
LIBRARIES = ("torch", "timm", "numpy", "hydra-core", "einops", "torchmetrics", "decord")


@functools.cache
def code_digest(project: str | None) -> str:
    """Digest of the code that decides results: the Python files of vocl/, launch/, hydra_plugins/, and of
    the packages of the folder `project`, and pyproject.toml.

    A snapshot has the digest of what it was taken of: both leave out what is hidden or named like a
    secret, and a snapshot is refused where a module is a link or too large to be copied.
    """
    digest = hashlib.blake2b(digest_size=8)
    places = [(REPOSITORY, REPOSITORY / name) for name in CODE]
    if project is not None:
        own = [folder for name, folder in packages(project).items() if name != "vocl"]
        places += [(folder.parent, folder) for folder in sorted(own)]
    for root, path in places:
        for file in source_files.modules(path) if path.is_dir() else [path]:
            if file.is_file():
                digest.update(f"{file.relative_to(root)}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def commit() -> str | None:
    """The checkout's commit, with a + when files differ from it; None outside a checkout, and, once that is
    said, where git does not answer: in another user's checkout, say.

    In a snapshot: that of the checkout it was taken of.
    """
    if (REPOSITORY / SNAPSHOT).is_file():
        return (json_or_none(REPOSITORY / SNAPSHOT) or {}).get("commit")
    try:
        head = git.call(REPOSITORY, "rev-parse", "HEAD").strip()
        return head + ("+" if git.call(REPOSITORY, "status", "--porcelain", "--untracked-files=no") else "")
    except git.GitError as error:
        if git.is_checkout(REPOSITORY):
            why = f"git does not answer: {error}; no commit and no changes are on record"
            logger.warning("%s: %s", REPOSITORY, why)
        return None


def environment(device: str, threads: int, world: int, project: str | None) -> dict[str, Any]:
    """Machine, libraries and code of this process."""
    versions: dict[str, str | None] = {}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "imported_from": str(REPOSITORY),
        "machine": platform.machine(),
        "host": platform.node(),
        "device": device,
        "threads": threads,
        "world": world,
        "libraries": versions,
        "code": code_digest(project),
        "commit": commit(),
        "command": sys.argv,
    }
