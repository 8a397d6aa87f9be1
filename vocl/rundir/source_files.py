"""Which files of a folder are its source, to be kept with what they compute, and which are not.

Source is what is written by hand (`SUFFIXES`) and what git tracks. Never source are: hidden files
(.env, .netrc), names of keys and passwords (`is_private`), links, and files of more than `MAX_FILE`
bytes. Imports no torch.
"""

from __future__ import annotations

import enum
import os
import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = frozenset(
    (
        *(".py", ".pyi", ".pyx", ".typed", ".yaml", ".yml", ".toml", ".cfg", ".ini"),
        *(".j2", ".html", ".css", ".js"),
        *(".c", ".cpp", ".cu", ".cuh", ".h"),
    )
)
MAX_FILE = 1_000_000  # bytes
CACHES = re.compile(r"__pycache__|.*\.py[co]|.*\.egg-info|\.git.*|\.DS_Store")  # nobody needs to be told of
WORDS = r"(.*[-_.])?(secrets?|credentials?|passwords?|passwd|api[-_]?keys?|service[-_]?accounts?)([-_.].*)?"
KEYS = re.compile(
    rf"""{WORDS} | id_[^.]* | id_(rsa|dsa|ecdsa|ed25519)\b.* | [._]?netrc | htpasswd | kaggle\.json
    | .*\.(pem|key|p12|pfx|ppk|jks|kdbx|keystore|gpg|env) | (.*[-_.])?tokens?\.(json|txt)""",
    re.VERBOSE | re.IGNORECASE,
)
FOLDERS = re.compile(WORDS, re.IGNORECASE)
MODULES = re.compile(r"(.*_)?(secrets|credentials|passwords|api_?keys?)(_.*)?\.pyi?", re.IGNORECASE)


class Why(enum.Enum):
    """Why a file is no source; first what somebody may miss."""

    UNREADABLE = "cannot be read"
    LARGE = f"more than {MAX_FILE / 1e6:.0f} MB"
    DATA = "neither source nor tracked by git"
    LINK = "a link"
    HOLDS_SECRET = "holds a secret"
    PRIVATE = "named like a secret"
    HIDDEN = "hidden"
    SPECIAL = "no plain file"


@dataclass(frozen=True)
class Found:
    """A file, its `name` relative to the folder that was walked, and why it is no source if it is none."""

    path: Path
    name: str
    why: Why | None

    @property
    def is_code(self) -> bool:
        """Whether Python may import it: a module, or a package that is linked."""
        return (self.path.suffix == ".py" and self.path.exists()) or (self.path / "__init__.py").is_file()


def is_private(name: str, is_folder: bool = False) -> bool:
    """Whether a file or folder of that name is taken for one that holds a key or a password."""
    pattern = FOLDERS if is_folder else MODULES if name.endswith((".py", ".pyi")) else KEYS
    return bool(pattern.fullmatch(name))


def walk(folder: Path, tracked: Container[str] | None = frozenset()) -> Iterator[Found]:
    """All files in `folder` in the order of their names, caches left aside; links are not followed.

    `tracked`: names, relative to `folder`, of data that belongs to the source too; None: all that lies
    there does. A folder of a hidden or a private name, and one that cannot be read, is one file.
    """
    yield from _walk(folder, "", tracked)


def _walk(folder: Path, above: str, tracked: Container[str] | None) -> Iterator[Found]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        yield Found(folder, above.rstrip("/") or ".", Why.UNREADABLE)
        return
    for entry in entries:
        path, name = folder / entry.name, f"{above}{entry.name}"
        if CACHES.fullmatch(entry.name):
            continue
        why = _why_not(entry)
        if why is None and entry.is_dir(follow_symlinks=False):
            yield from _walk(path, f"{name}/", tracked)
            continue
        if why is None and not (path.suffix in SUFFIXES or tracked is None or name in tracked):
            why = Why.DATA
        yield Found(path, name, why or _trouble(entry))


def _why_not(entry: os.DirEntry[str]) -> Why | None:
    """What tells against a file or folder by its name and kind."""
    is_folder = entry.is_dir(follow_symlinks=False)
    if entry.name.startswith("."):
        return Why.HIDDEN
    if is_private(entry.name, is_folder):
        return Why.PRIVATE
    if entry.is_symlink():
        return Why.LINK
    return None if is_folder or entry.is_file() else Why.SPECIAL


def _trouble(entry: os.DirEntry[str]) -> Why | None:
    """What tells against a plain file that would be source."""
    try:
        if entry.stat(follow_symlinks=False).st_size > MAX_FILE:
            return Why.LARGE
    except OSError:
        return Why.UNREADABLE
    return None if os.access(entry.path, os.R_OK) else Why.UNREADABLE


def modules(folder: Path) -> list[Path]:
    """The Python files of `folder`, in an order that is the same everywhere. A linked one counts, for
    Python imports it; what is named like a secret does not."""
    skipped = (Why.HIDDEN, Why.PRIVATE)
    found = [it.path for it in walk(folder) if it.path.suffix == ".py" and it.why not in skipped]
    return sorted(path for path in found if path.is_file())


def summary(found: Sequence[Found], most: int = 12) -> str:
    """One line of text that names files and says why each is no source, first what somebody may miss;
    of much data only the folder."""
    groups: dict[tuple[str, Why], list[str]] = {}
    for why in Why:
        for it in found:
            if it.why is why:
                groups.setdefault((it.name.rpartition("/")[0], why), []).append(it.name)
    words = []
    for (folder, why), names in groups.items():
        if len(names) > 3 and why is Why.DATA:
            names = [f"{len(names)} files in {folder or '.'}"]
        words += [f"{name} ({why.value})" for name in names]
    more = [f"{len(words) - most} more"] if len(words) > most else []
    return " ".join(", ".join([*words[:most], *more]).split())
