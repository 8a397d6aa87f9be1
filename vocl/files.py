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
from typing import IO, Any, BinaryIO, TypeGuard

from vocl.errors import UserError

TEMPORARY = ".tmp-"  # how the names of unfinished files begin
NUMBER = (int, float)
MOST = 2**63
CHUNK_BYTES = 65536
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
    with _replacing(path) as (handle, temporary):
        os.close(handle)
        yield temporary


@contextmanager
def _replacing(path: Path) -> Iterator[tuple[int, Path]]:
    """Yield a new file beside `path`, open as a descriptor for the block to close, and its name."""
    make_folder(path.parent)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{TEMPORARY}{path.stem}.", suffix=path.suffix)
    temporary = Path(name)
    try:
        yield handle, temporary
        share(temporary)
        temporary.replace(path)
    except BaseException as error:
        with suppress(FileNotFoundError):
            temporary.unlink()
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # of a write or a sync, which know their descriptor alone
        raise
    sync_folder(path.parent)


def open_plain(path: Path, mode: str = "ab") -> IO[Any]:
    """Open the file `path` to append to it ("a", "ab", or "a+" to read as well); made where absent.

    Others may have written in its folder: no link is followed, and nothing but a file with this one name
    is opened. Raises `OSError`. Of this user's files the permissions become those of its folder.
    """
    flags = os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe blocks for ever
    try:
        handle = os.open(path, flags | (os.O_RDWR if "+" in mode else os.O_WRONLY), 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _planted(path, "a link") from None
        raise
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise _planted(path, "no plain file")
        if status.st_nlink > 1:
            raise _planted(path, "a link (it has another name)")
        if status.st_uid == os.geteuid():
            os.fchmod(handle, 0o666 & permitted(path.parent))
        return os.fdopen(handle, mode)
    except BaseException:
        os.close(handle)
        raise


def own_folder(folder: Path) -> None:
    """Make `folder`, whose content this user alone vouches for. Raises `OSError` where another made it."""
    make_folder(folder.parent)
    with suppress(FileExistsError):
        folder.mkdir()
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise _planted(folder, "no folder of yours")


def refuse_planted(folder: Path) -> None:
    """Raise `OSError` where the folder `folder` of a results folder is a link that another user made, so
    that what is meant to be written there would come to lie, or what is read lies, where they chose."""
    try:
        status = folder.lstat()
    except FileNotFoundError:
        return
    if stat.S_ISLNK(status.st_mode) and status.st_uid not in (0, os.geteuid()):
        raise _planted(folder, f"a link of another user's (number {status.st_uid})", "which is not followed")


def _planted(path: Path, what: str, so: str = "nothing is written there") -> OSError:
    return OSError(errno.ELOOP, f"is {what}, {so}", str(path))


def make_folder(folder: Path) -> None:
    """Make `folder` and its parents. Below a folder that a group shares (setgid, group-writable) the
    new ones are shared too, whatever the umask: several people may work in one results folder."""
    if folder.is_dir():
        refuse_planted(folder)
        return
    if not folder.parent.is_dir():
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
    `most` that the umask, or a folder that is shared, lets through. It survives a power cut from then on."""
    with _opened(path) as handle:
        os.fchmod(handle, most & permitted(path.parent))
        os.fsync(handle)


def set_mode(folder: Path, mode: int) -> None:
    """Give `folder`, of this user, the permissions `mode`; a link in its place is an `OSError`."""
    with _opened(folder) as handle:
        os.fchmod(handle, mode)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """A descriptor of `path`, not of what has taken its name meanwhile."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)


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


def sweep(folder: Path, spare: Sequence[str] = ()) -> None:
    """Remove what killed processes left unfinished anywhere in `folder`, but for its folders `spare`, in
    which others may be writing at this moment."""
    for leftover in folder.rglob(f"{TEMPORARY}*"):
        if leftover.relative_to(folder).parts[0] not in spare:
            leftover.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write `content` to `path` atomically."""
    with _replacing(path) as (handle, _), os.fdopen(handle, "wb") as file:
        file.write(content)


def write_text(path: Path, content: str) -> None:
    """Write `content` to `path` atomically, as UTF-8."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, atomically; not-a-number is written as null."""
    write_text(path, json.dumps(finite(content), indent=1, allow_nan=False) + "\n")


def is_there(path: str | Path) -> bool:
    """Whether anything lies at `path`, readable or not."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError as error:
        return error.errno != errno.ENAMETOOLONG
    return True


def open_regular(path: str | Path, links: bool = True) -> BinaryIO:
    """Open a file to read it; `links`: also what a link of this name leads to. Raises `OSError`, and
    `UserError` for what is none: a pipe never ends."""
    return os.fdopen(_regular(path, links)[0], "rb")


def read_bytes(path: str | Path) -> bytes:
    """The content of a file; raises as `open_regular` does.

    Without a file object, which takes longer to make than most records take to read.
    """
    handle, size = _regular(path, True)
    parts, most = [], size + 1
    try:
        while part := os.read(handle, most):
            parts.append(part)
            most = CHUNK_BYTES  # it grew, or its size is not known before it is read
        return b"".join(parts)
    finally:
        os.close(handle)


def _regular(path: str | Path, links: bool) -> tuple[int, int]:
    """A descriptor of a regular file and the file's size; see `open_regular`."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        handle = os.open(path, flags | (0 if links else os.O_NOFOLLOW))
    except OSError as error:
        if links or error.errno != errno.ELOOP:
            raise
        raise UserError(f"{path}: is a link, which is not followed") from None
    status = os.fstat(handle)
    if stat.S_ISREG(status.st_mode):
        return handle, status.st_size
    os.close(handle)
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise UserError(f"{path}: not a regular file")


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


def holds(content: Any, kinds: Kinds) -> TypeGuard[dict[str, Any]]:
    """Whether `content` is a mapping with values of `kinds`; a key that may lack has NoneType among its.
    No number of ours is a truth value, not finite, or beyond 64 bits."""
    if not isinstance(content, dict):
        return False
    for key, kind in kinds.items():  # noqa: SIM110 (boards ask this a hundred thousand times)
        if not is_a(content.get(key), kind):
            return False
    return True


def is_a(value: Any, kind: type | tuple[type, ...]) -> bool:
    """Whether a value of a record is of `kind` (see `holds`)."""
    if isinstance(value, bool):
        return bool in kind if isinstance(kind, tuple) else kind is bool
    return isinstance(value, kind) and (not isinstance(value, NUMBER) or abs(value) < MOST)


def is_number(value: Any) -> TypeGuard[float]:
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
