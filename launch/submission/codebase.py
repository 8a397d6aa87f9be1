"""The code that runs import and compose: its files, read once, and written with no wider permissions."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from vocl.config.folders import packages
from vocl.config.secret import refuse_secrets
from vocl.errors import UserError
from vocl.files import json_or_none, make_folder, permitted, set_mode, sync_folder, user_path
from vocl.rundir import git
from vocl.rundir.provenance import REPOSITORY, SNAPSHOT
from vocl.rundir.source_files import Found, Why, summary, walk

PARTS = ("vocl", "launch", "conf", "hydra_plugins", "pyproject.toml", "setup.py")
MAX_MB = 20.0
CLUSTER = ("conf/cluster/", "project/conf/cluster/")  # of sites: accounts, shell lines
SHIPPED = tuple(f"{CLUSTER[0]}{name}.yaml" for name in ("here", "local", "slurm"))
KEPT = ("kind", "export", "defaults")  # of a cluster file's texts and lists: they name no site
GROUP, OTHERS = (0o050, 0o070), (0o005, 0o007)  # what lets each into a folder, and all that it may


@dataclass(frozen=True)
class File:
    """A file as it was read."""

    content: bytes
    mode: int


@dataclass(frozen=True)
class Code:
    """Files of the code and modes of their folders, by name in the copy ("" is the copy itself); what
    was left out of it; and what is to be said beside that."""

    files: dict[str, File]
    folders: dict[str, int]
    left_out: list[Found] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """What to tell whoever asked for a copy: a line each."""
        left = [f"not among the copied code: {summary(self.left_out)}"] if self.left_out else []
        return [*self.notes, *left]


@dataclass(frozen=True)
class _Place:
    path: Path
    name: str  # in the copy
    base: Path  # the folder that git is asked about


def collect(project: str | None, repository: Path = REPOSITORY) -> Code:
    """The code in `repository` and in the packages and the conf/ of the folder `project`: what
    `vocl.rundir.source_files` calls source, committed, changed or not yet added.

    Of cluster configs those without secrets in their lines. In a copy that is taken of a copy all files
    count, for they were chosen when that was made. Raises `UserError` where Python would lack a module
    in the copy, for it is a link, too large or cannot be read, and for more than `MAX_MB` in all.
    """
    places = [_Place(repository / part, part, repository) for part in PARTS]
    roots, folder = {"": repository}, user_path(project).resolve() if project is not None else None
    if folder is not None:
        own = sorted(path for path in packages(project).values() if path.parent == folder)
        places += [_Place(path, f"project/{path.name}", folder) for path in (*own, folder / "conf")]
        roots["project"] = folder
    return _read(places, roots)


def collect_copy(snapshot: Path) -> Code:
    """The code in a snapshot; of one from before there were rules for it, what would be source today."""
    places = [_Place(snapshot / part, part, snapshot) for part in (*PARTS, "project")]
    return _read(places, {"": snapshot})


def _read(places: list[_Place], roots: dict[str, Path]) -> Code:
    tracked: dict[Path, frozenset[str] | None] = {}
    notes: list[str] = []
    for base in dict.fromkeys(place.base for place in places):
        tracked[base] = _tracked(base, notes)
    found = [(it, name) for place in places for it, name in _found(place, tracked[place.base])]
    code = Code({}, {name: _mode(path) for name, path in roots.items()}, notes=notes)
    taken = [(it, name) for it, name in found if it.why is None]
    code.left_out.extend(replace(it, name=name) for it, name in found if it.why is not None)
    _refuse_incomplete(code.left_out)
    _refuse_large(taken)
    for it, name in taken:
        file = _file(it.path)
        if name.startswith(CLUSTER) and _holds_secret(file.content):
            code.left_out.append(replace(it, name=name, why=Why.HOLDS_SECRET))
            continue
        code.files[name] = file
        above = zip(PurePosixPath(name).parents[:-1], it.path.parents, strict=False)
        code.folders.update({str(folder): _mode(original) for folder, original in above})
    return code


def _found(place: _Place, tracked: frozenset[str] | None) -> Iterator[tuple[Found, str]]:
    """The files of a place, each with its name in the copy."""
    if place.path.is_symlink():
        yield Found(place.path, place.name, Why.LINK), place.name
    elif place.path.is_file():
        yield Found(place.path, place.name, None), place.name
    elif place.path.is_dir():
        start = f"{place.path.relative_to(place.base).as_posix()}/"
        known = tracked and {name.removeprefix(start) for name in tracked if name.startswith(start)}
        for it in walk(place.path, known):
            yield it, f"{place.name}/{it.name}"


def _tracked(folder: Path, notes: list[str]) -> frozenset[str] | None:
    """Names of what git tracks in `folder`; None in a copy, where everything counts."""
    if (json_or_none(folder / SNAPSHOT) or {}).get("schema"):
        return None
    if not git.is_checkout(folder):
        return frozenset()
    try:
        return git.tracked(folder)
    except git.GitError as error:
        notes.append(f"{folder}: git does not answer: {error}; only what is source by its name is copied")
        return frozenset()


def _refuse_incomplete(left_out: list[Found]) -> None:
    meant = (Why.HIDDEN, Why.PRIVATE, Why.DATA)
    missed = [it for it in left_out if it.why not in meant and (it.is_code or it.path.name == "conf")]
    for it in missed[:1]:
        assert it.why is not None, it
        more = f", and {len(missed) - 1} more" if missed[1:] else ""
        raise UserError(f"{it.path}: {it.why.value}; the copy of the code that is kept would lack it{more}")


def _refuse_large(taken: list[tuple[Found, str]]) -> None:
    sizes = {name: it.path.lstat().st_size / 1e6 for it, name in taken}
    if (total := sum(sizes.values())) > MAX_MB:
        largest = sorted(sizes, key=lambda name: -sizes[name])[:3]
        raise UserError(
            f"{total:.0f} MB of code and configs, more than {MAX_MB:.0f} MB to be copied with every change; "
            f"the largest: {', '.join(f'{name} ({sizes[name]:.1f} MB)' for name in largest)}"
        )


def _file(path: Path) -> File:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            return File(file.read(), stat.S_IMODE(os.fstat(handle).st_mode))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None


def _mode(folder: Path) -> int:
    return stat.S_IMODE(folder.stat().st_mode)


def _holds_secret(content: bytes) -> bool:
    try:
        refuse_secrets({"lines": content.decode(errors="replace").splitlines()})
    except UserError:
        return True
    return False


# ------------------------------------------------------------------------------------------ write


def permissions(mode: int, place: Path, is_folder: bool = False) -> int:
    """Mode in the folder `place` of a copy of what has `mode`: read-only files, and to nobody what the
    original is not to them. Who may enter a folder may also remove it, where `place` is shared so."""
    if not is_folder:
        return mode & permitted(place) & ~0o222
    keep = 0o700
    for enters, everything in (GROUP, OTHERS):
        keep |= everything if mode & enters == enters else 0
    return keep & permitted(place)


def write(code: Code, folder: Path) -> None:
    """Write `code` into `folder`, which is made where it is not there, and bring all of it to disk."""
    places = {name: folder / name for name in sorted(code.folders)}
    for name, place in places.items():
        make_folder(place)
        mode = _mode(place)
        wanted = permissions(code.folders[name], place.parent, is_folder=True)
        if mode & 0o777 & ~wanted:
            set_mode(place, mode & (wanted | ~0o777))
    for name, file in code.files.items():
        path = folder / name
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as copy:
            copy.write(file.content)
            copy.flush()
            os.fchmod(handle, permissions(file.mode, path.parent))
            os.fsync(handle)
    for place in reversed(places.values()):
        sync_folder(place)


# ---------------------------------------------------------------------------------------- publish


def without_site(code: Code) -> Code:
    """`code` for people elsewhere: of conf/cluster only what is shipped, without what names a site."""
    files = {name: file for name, file in code.files.items() if not name.startswith(CLUSTER)}
    for name in SHIPPED:
        values = _mapping(code.files[name].content) if name in code.files else None
        if values is not None and values.get("defaults", ["here"]) == ["here"]:
            text = yaml.safe_dump(general(values), sort_keys=False)
            files[name] = replace(code.files[name], content=text.encode())
    folders = {str(above) for name in files for above in PurePosixPath(name).parents}
    modes = {name: mode for name, mode in code.folders.items() if name in folders or name == ""}
    return replace(code, files=files, folders=modes)


def general(cluster: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a cluster without accounts, partitions, shell lines and other texts of one site."""
    empty: dict[type, Any] = {str: None, list: [], dict: {}}
    return {key: value if key in KEPT else empty.get(type(value), value) for key, value in cluster.items()}


def _mapping(content: bytes) -> dict[str, Any] | None:
    try:
        found = yaml.safe_load(content)
    except (yaml.YAMLError, ValueError):
        return None
    return found if isinstance(found, dict) else None
