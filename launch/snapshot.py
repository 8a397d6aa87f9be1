"""The code of a submission, kept as it was: jobs import this copy, whatever becomes of the checkout."""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from pathlib import Path

from vocl.config import packages
from vocl.errors import UserError
from vocl.files import TEMPORARY, make_folder, share, sync, sync_folder, user_path
from vocl.record import REPOSITORY, commit, uncommitted

PARTS = ("vocl", "launch", "conf", "hydra_plugins", "pyproject.toml")
SUFFIXES = (".py", ".yaml", ".toml")
MAX_MB = 50.0


def take(root: Path, project: str | None) -> Path:
    """The folder `<root>/snapshots/<digest>` with a copy of the code, made if absent.

    Holds what a run can import or compose of this checkout (committed, changed or not yet added) and
    of the folder `project`, and `snapshot.json` with the commit and the changes to it. The digest is
    that of the content: submissions of the same code share one copy.
    """
    files = _files(project)
    digest = hashlib.blake2b(digest_size=8)
    for name, path in sorted(files.items()):
        digest.update(f"{name}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    folder = root / "snapshots" / digest.hexdigest()
    if folder.is_dir():
        return folder
    temporary = folder.with_name(f"{TEMPORARY}{secrets.token_hex(5)}")
    try:
        for name, path in files.items():
            make_folder((temporary / name).parent)
            shutil.copyfile(path, temporary / name)
        (temporary / "snapshot.json").write_text(
            json.dumps({"commit": commit(), "diff": uncommitted()}, indent=1)
        )
        _seal(temporary)
        try:
            temporary.rename(folder)
        except OSError:  # somebody else was faster, with the same content
            if not folder.is_dir():
                raise
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _seal(folder: Path) -> None:
    """Bring all of `folder` to disk; its files become read-only, for whom the umask, or a results folder
    that is shared, lets read them: conf/ may name what is private."""
    for path in (*folder.rglob("*"), folder):
        if path.is_dir():
            sync_folder(path)
        else:
            share(path)
            path.chmod(path.stat().st_mode & ~0o222)
            sync(path)


def project_in(snapshot: Path, project: str | None) -> str | None:
    """Where the copy of the folder `project` lies in a snapshot."""
    return str(snapshot / "project") if project is not None else None


def _files(project: str | None) -> dict[str, Path]:
    """What is copied: name in the snapshot -> file."""
    places = [(REPOSITORY / part, part) for part in PARTS]
    if project is not None:
        folder = user_path(project).resolve()
        own = [path for path in packages(project).values() if path.parent == folder]
        places += [(path, f"project/{path.name}") for path in (*own, folder / "conf")]
    files: dict[str, Path] = {}
    for place, name in places:
        found = [place] if place.is_file() else place.rglob("*") if place.is_dir() else []
        for path in found:
            ours = path.suffix in SUFFIXES or name.startswith("project/")
            if ours and path.is_file() and "__pycache__" not in path.parts:
                files[f"{name}/{path.relative_to(place)}" if path != place else name] = path
    size_mb = sum(path.stat().st_size for path in files.values()) / 1e6
    if size_mb > MAX_MB:
        raise UserError(f"project={project}: {size_mb:.0f} MB of code and configs, more than {MAX_MB:.0f} MB")
    return files
