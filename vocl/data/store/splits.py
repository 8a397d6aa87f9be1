"""Splits of a store: text files with the names of videos, one a line, in order.

The first line says of which annotation they are, as its SHA-256, so that a list made for another release of
a dataset is refused; the second how many there are, and by which rule. Both begin with #, as further
lines for people may.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from vocl.data.store import layout
from vocl.errors import UserError, near
from vocl.files import write_text

_HEAD = "# annotation: "
_NONE = "none"
_COUNT = re.compile(r"# (\d{1,9}) videos\b")
SUFFIX = ".txt"


def names(store: Path) -> list[str]:
    """The splits that there are."""
    return sorted(path.stem for path in (store / layout.SPLITS).glob(f"[!.]*{SUFFIX}"))


def write(store: Path, name: str, videos: Sequence[str], rule: str, annotation: str | None) -> None:
    """Write the list of a split."""
    lines = [f"{_HEAD}{annotation or _NONE}", f"# {len(videos)} videos: {rule}", *videos]
    write_text(store / layout.SPLITS / f"{name}{SUFFIX}", "\n".join(lines) + "\n")


def read(store: Path, name: str, annotation: str | None, known: Collection[str]) -> list[str]:
    """The videos of a split; `known`: all that the store has.

    UserError for a split that there is not, an empty one, one of another annotation, a name that is
    unknown or stands there twice.
    """
    path = store / layout.SPLITS / f"{name}{SUFFIX}"
    choices = names(store)
    if name not in choices:
        raise UserError(
            f"{store}: has no split '{name}'; choose from {', '.join(choices)}{near(name, choices)}"
        )
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    if not lines or lines[0] != f"{_HEAD}{annotation or _NONE}":
        first = lines[0][:100] if lines else "nothing"
        raise UserError(f"{path}: its first line must be '{_HEAD}{annotation or _NONE}'; found {first}")
    videos = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not videos:
        raise UserError(f"{path}: names no video")
    said = [int(found[1]) for line in lines if (found := _COUNT.match(line))]
    if said and said[0] != len(videos):
        raise UserError(f"{path}: says that it names {said[0]} videos, and names {len(videos)}")
    return _all_known(str(path), videos, known)


def named(store: Path, videos: Sequence[str], known: Collection[str]) -> list[str]:
    """`videos`, of which the store must have each, and which are named once. UserError."""
    return _all_known(f"{store}: dataset.source.sequences", videos, known)


def _all_known(where: str, videos: Sequence[str], known: Collection[str]) -> list[str]:
    if unknown := [video for video in videos if video not in known]:
        lacking = f"{len(unknown)} of {len(videos)} videos are not in the store, as {unknown[0]}"
        raise UserError(f"{where}: {lacking}")
    if len(set(videos)) != len(videos):
        twice = next(video for video in videos if list(videos).count(video) > 1)
        raise UserError(f"{where}: names {twice} twice")
    return list(videos)
