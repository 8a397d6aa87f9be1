"""The defaults file: what need not be typed in every command.

It is `vocl.yaml` in the working folder, else `vocl/defaults.yaml` in the user's config folder; VOCL_DEFAULTS
names another, or, empty, none. What is typed goes before it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from vocl.config.grammar import key_of, setting
from vocl.errors import UserError, near

ELSEWHERE = "VOCL_DEFAULTS"  # environment variable
HERE, OF_USER = "vocl.yaml", "vocl/defaults.yaml"
KEYS = {
    "root": "runtime.root",
    "data": "runtime.data_root",
    "weights": "runtime.weights_root",
    "project": "project",
    "cluster": "cluster",
}
SECTIONS = ("runtime", "cluster")  # whose keys may be set, as runtime.device: cuda
ROOT = ("runtime.root",)  # what a verb takes that looks at runs
OF_ROOT = ("runtime.root=",)  # how the word begins that says it
NAMES = (*ROOT, "project")  # one that looks up ablations
RUNS = ("runtime", "project")  # one that composes runs
PLACED = (*RUNS, "cluster")  # one that hands them over


def beside(typed: Sequence[str], taken: Sequence[str], say: bool = True) -> tuple[str, ...]:
    """The overrides of the defaults file that stand before those `typed`, of the keys and sections `taken`.

    Says on stderr which these are, unless `say` is false. Raises `UserError` for a mistake in the file.
    """
    path = find()
    if path is None:
        return ()
    given = {key_of(word) for word in typed}
    found = {key: override for key, override in read(path).items() if _is_of(key, taken)}
    if "cluster" in given:  # settings of one cluster say nothing of another
        found = {key: override for key, override in found.items() if not _is_of(key, ("cluster",))}
    kept = [override for key, override in found.items() if key not in given]
    if kept and say:
        print(UserError(f"defaults from {path}: {' '.join(kept)}"), file=sys.stderr)
    return tuple(kept)


def find() -> Path | None:
    """Where the defaults file lies, if there is one."""
    elsewhere = os.environ.get(ELSEWHERE)
    if elsewhere is not None:
        return Path(elsewhere) if elsewhere else None
    if os.path.lexists(HERE):
        _refuse_of_others(Path(HERE))
        return Path(HERE)
    folder = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    path = Path(folder, OF_USER)
    return path if path.is_file() else None


def read(path: Path) -> dict[str, str]:
    """The overrides that the file says, by key."""
    from vocl.config.safe_yaml import read_yaml

    if not path.is_file():
        raise UserError(f"{path}: {'not a file' if os.path.lexists(path) else 'no such defaults file'}")
    content = read_yaml(path)
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected key: value, of {_choices()}")
    return dict(_override(path, key, value) for key, value in content.items())


def _override(path: Path, key: Any, value: Any) -> tuple[str, str]:
    section, dot, name = str(key).partition(".")
    full = str(key) if dot and name and section in SECTIONS else KEYS.get(str(key))
    if full is None:
        raise UserError(f"{path}: {key}: unknown key, choose from {_choices()}{near(str(key), KEYS)}")
    if isinstance(value, bool) and dot:
        return full, f"{full}={str(value).lower()}"
    if isinstance(value, int | float) and dot:
        return full, f"{full}={value}"
    if not isinstance(value, str) or not value:
        raise UserError(f"{path}: {key}: expected {'a text or a number' if dot else 'a text'}, not {value!r}")
    if full == "cluster":  # a file's name, which Hydra takes without quotes
        return full, f"{full}={value}"
    return full, setting(full, value)


def _choices() -> str:
    return ", ".join([*KEYS, *(f"{section}.<key>" for section in SECTIONS)])


def _is_of(key: str, taken: Iterable[str]) -> bool:
    return any(key == each or key.startswith(f"{each}.") for each in taken)


def _refuse_of_others(path: Path) -> None:
    """Refuse a file that another user put into the working folder: it may name code that is run."""
    owners = {path.lstat().st_uid, path.stat().st_uid if path.exists() else 0}
    if not owners <= {0, os.geteuid()}:
        raise UserError(f"{path.absolute()}: is another user's; if you trust it: export {ELSEWHERE}={path}")
