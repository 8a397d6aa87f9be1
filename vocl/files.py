"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

TEMPORARY = ".tmp-"  # how the names of unfinished files begin


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced and renamed, else removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{TEMPORARY}{path.stem}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise
    _sync_folder(path.parent)


def sweep(folder: Path) -> None:
    """Remove what killed processes left unfinished anywhere in `folder`."""
    for leftover in folder.rglob(f"{TEMPORARY}*"):
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


def finite(content: Any, spell: Callable[[float], Any] = lambda number: None) -> Any:
    """`content` with every float that JSON cannot say replaced by `spell` of it (by default null)."""
    if isinstance(content, float):
        return content if abs(content) < float("inf") else spell(content)
    if isinstance(content, dict):
        return {str(key): finite(value, spell) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value, spell) for value in content]
    return content


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut; file systems that cannot do this do not need it."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
