"""The code of a submission, kept as it was: jobs import this copy, whatever becomes of the checkout."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import sys
from pathlib import Path

from launch.submission import codebase
from launch.submission.codebase import Code, permissions
from vocl.files import TEMPORARY, json_or_none, make_folder, share, sync_folder
from vocl.rundir import git
from vocl.rundir.provenance import CODE, REPOSITORY, SNAPSHOT, commit
from vocl.rundir.results_root import ResultsRoot
from vocl.rundir.source_files import is_private

SCHEMA = 1  # of snapshot.json; without it the copy holds whatever lay beside the code


def take(root: ResultsRoot, project: str | None) -> Path:
    """The folder `<root>/snapshots/<digest>` with a copy of the code, made if absent.

    Holds what a run can import or compose of this checkout (committed, changed or not yet added) and
    of the folder `project`: see `codebase.collect`; what is left out of them is said on stderr. And
    `snapshot.json` with the commit and the changes to it. The digest is that of content and
    permissions: submissions of the same code share one copy.
    """
    code = codebase.collect(project)
    for line in code.lines():
        print(f"note: {line}", file=sys.stderr)
    make_folder(root.snapshots)
    folder = root.snapshots / _digest(code, root.snapshots)
    if folder.is_dir():
        return folder
    temporary = folder.with_name(f"{TEMPORARY}{secrets.token_hex(5)}")
    try:
        codebase.write(code, temporary)
        write_record(temporary, commit(), *_changes(code))
        try:
            temporary.rename(folder)
        except OSError:  # somebody else was faster, with the same content
            if not folder.is_dir():
                raise
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def write_record(folder: Path, head: str | None, diff: str | None, mode: int) -> None:
    """Write snapshot.json of a copy of the code; who may not read a file by its `mode` may not read
    what was changed in it."""
    path = folder / SNAPSHOT
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        json.dump({"schema": SCHEMA, "commit": head, "diff": diff}, file, indent=1)
    share(path, mode & 0o444)
    sync_folder(folder)


def project_in(snapshot: Path, project: str | None) -> str | None:
    """Where the copy of the folder `project` lies in a snapshot."""
    return str(snapshot / "project") if project is not None else None


def _digest(code: Code, place: Path) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for name, mode in sorted(code.folders.items()):
        digest.update(os.fsencode(f"{name}\0{permissions(mode, place, is_folder=True):o}\0"))
    for name, file in sorted(code.files.items()):
        mode = permissions(file.mode, place)
        digest.update(os.fsencode(f"{name}\0{mode:o}\0{len(file.content)}\0") + file.content)
    return digest.hexdigest()


def _changes(code: Code) -> tuple[str | None, int]:
    """What the checkout's copied or removed files say beyond its commit, as a diff, and who may read it;
    no diff outside a checkout."""
    if (REPOSITORY / SNAPSHOT).is_file():
        return (json_or_none(REPOSITORY / SNAPSHOT) or {}).get("diff"), (REPOSITORY / SNAPSHOT).stat().st_mode
    mode, shown = 0o444, []
    try:
        for name in git.changed(REPOSITORY, *CODE, "conf"):
            if name in code.files:
                mode &= code.files[name].mode
                shown.append(name)
            elif not os.path.lexists(REPOSITORY / name) and not any(map(is_private, Path(name).parts)):
                shown.append(name)
        return git.diff(REPOSITORY, *shown), mode
    except git.GitError:
        return None, mode
