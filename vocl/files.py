"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import errno
import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from vocl.errors import UserError

TEMPORARY = ".tmp-"  # how the names of unfinished files begin
NUMBER = (int, float)
MOST = 2**63
Kinds = Mapping[str, type | tuple[type, ...]]  # of the values under keys that are relied on


def user_path(text: str | Path) -> Path:
    """The path that somebody wrote, with ~ and ~USER read as a shell does; `UserError` for no such user."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise UserError(f"{text}: there is no such user's home folder") from None


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced and renamed, else removed."""
    make_folder(path.parent)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{TEMPORARY}{path.stem}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        share(temporary)
        sync(temporary)
        temporary.replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Make `folder` and its parents. Below a folder that a group shares (setgid, group-writable) the
    new ones are shared too, whatever the umask: several people may work in one results folder."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    before = _umask()
    os.umask(before & ~_shared_bits(folder.parent))  # not by chmod: others look as soon as it is there
    try:
        folder.mkdir()
    except FileExistsError:
        if not folder.is_dir():
            raise
    finally:
        os.umask(before)


def share(path: Path, most: int = 0o666) -> None:
    """Give the file `path`, of this user, the permissions that it should have in its folder: those of
    `most` that the umask, or a folder that is shared, lets through."""
    path.chmod(most & permitted(path.parent))


def permitted(folder: Path) -> int:
    """Permissions that what is made in `folder` may have."""
    return 0o777 & (~_umask() | _shared_bits(folder))


def _shared_bits(folder: Path) -> int:
    """Permissions that what is made in `folder` gets beside those of the umask."""
    mode = folder.stat().st_mode
    return mode & 0o070 if mode & stat.S_ISGID and mode & stat.S_IWGRP else 0


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def sync(file: Path) -> None:
    """Have what was written to `file` survive a power cut."""
    with file.open("rb") as written:
        os.fsync(written.fileno())


def sweep(folder: Path, spare: Sequence[str] = ()) -> None:
    """Remove what killed processes left unfinished anywhere in `folder`, but for its folders `spare`, in
    which others may be writing at this moment."""
    for leftover in folder.rglob(f"{TEMPORARY}*"):
        if leftover.relative_to(folder).parts[0] not in spare:
            leftover.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write `content` to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write `content` to `path` atomically, as UTF-8."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, atomically; not-a-number is written as null."""
    write_text(path, json.dumps(finite(content), indent=1, allow_nan=False) + "\n")


def is_there(path: Path) -> bool:
    """Whether anything lies at `path`, readable or not."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError as error:
        return error.errno != errno.ENAMETOOLONG
    return True


def open_regular(path: str | Path) -> BinaryIO:
    """Open a file to read it. Raises `OSError`, and `UserError` for what is none: a pipe never ends."""
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise UserError(f"{path}: not a regular file")
    return file


def read_bytes(path: str | Path) -> bytes:
    """The content of a file; raises as `open_regular` does."""
    with open_regular(path) as file:
        return file.read()


def parse_json(text: str | bytes) -> Any:
    """What a JSON text says; raises `ValueError` for whatever is wrong with it."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None


def json_or_none(path: str | Path) -> dict[str, Any] | None:
    """The mapping in a JSON file; None where it cannot be read: a board must not fail at one run."""
    try:
        content = parse_json(read_bytes(path))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def holds(content: Any, kinds: Kinds) -> bool:
    """Whether `content` is a mapping with values of `kinds`; a key that may lack has NoneType among its.
    No number of ours is a truth value, not finite, or beyond 64 bits."""
    return isinstance(content, dict) and all(is_a(content.get(key), kind) for key, kind in kinds.items())


def is_a(value: Any, kind: type | tuple[type, ...]) -> bool:
    """Whether a value of a record is of `kind` (see `holds`)."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if isinstance(value, bool):
        return bool in kinds
    return isinstance(value, kinds) and (not isinstance(value, NUMBER) or abs(value) < MOST)


def is_number(value: Any) -> bool:
    """Whether `value` is a number that can be counted and compared with."""
    return is_a(value, NUMBER)


def record_or_none(path: str | Path, kinds: Kinds) -> dict[str, Any] | None:
    """The mapping in a JSON file, where it holds what `kinds` says; None where it is absent or damaged."""
    content = json_or_none(path)
    return content if content is not None and holds(content, kinds) else None


def finite(content: Any, spell: Callable[[float], Any] = lambda number: None) -> Any:
    """`content` with every float that JSON cannot say replaced by `spell` of it (by default null)."""
    if isinstance(content, float):
        return content if abs(content) < float("inf") else spell(content)
    if isinstance(content, dict):
        return {str(key): finite(value, spell) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value, spell) for value in content]
    return content


def sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut; file systems that cannot do this do not need it."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
