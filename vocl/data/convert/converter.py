"""What every reader of a published dataset has in common."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vocl.data.store.record import Record
from vocl.errors import UserError

DEV_SHARE, DEV_MOST = 0.1, 200  # of the training videos, for choosing settings


@dataclass(frozen=True)
class Unit:
    """What is read in one go: a video, or a file of videos. `weight`: its bytes, about."""

    name: str
    weight: int


@dataclass(frozen=True)
class Split:
    """Names of videos, in order; `rule` says to people which they are."""

    videos: Sequence[str]
    rule: str


class LeftOut(UserError):
    """In the place of a video that nothing is wrong with, but that a setting of the converter leaves out."""


class Converter:
    """Reads a dataset from `source`, a folder in its official layout. Subclass it.

    Nothing but names (and an annotation file, where there is one) is read at construction, which raises
    `UserError` for what is missing: what to download, and where it must lie. `published`: how many
    videos each of the dataset's own splits has; others are refused unless `partial`. An object
    of it goes to other processes, so it holds plain data.
    """

    published: Mapping[str, int] = {}

    def __init__(self, source: Path, *, partial: bool) -> None:
        self.source, self.partial = source, partial

    def annotation(self) -> Path | None:
        """The file that splits index; None where the folders say it all."""
        return None

    def units(self) -> Sequence[Unit]:
        """What there is to read, in order."""
        raise NotImplementedError

    def records(self, unit: Unit) -> Iterator[Record | UserError]:
        """The videos of a unit, in order; an error in the place of one that cannot be read."""
        raise NotImplementedError

    def splits(self, found: Mapping[str, Sequence[str]]) -> dict[str, Split]:
        """All splits by name; `found`: names of the stored videos by the split that their records say.

        Those of the dataset itself; a subclass adds those that papers made of them.
        """
        return {name: Split(videos, "of the dataset") for name, videos in found.items()}


def dev_splits(train: Split) -> dict[str, Split]:
    """`dev`, cut from the training videos to choose settings on, and `train_minus_dev`, to train on then.

    Chosen by a digest of the name, so that a video is in it or not whatever else there is.
    """
    order = sorted(train.videos, key=lambda name: hashlib.blake2b(name.encode()).digest())
    number = min(DEV_MOST, round(DEV_SHARE * len(order)) or int(len(order) > 1))
    chosen = set(order[:number])
    dev, rest = ([n for n in train.videos if (n in chosen) is within] for within in (True, False))
    return {
        "dev": Split(dev, f"{number} of train, by the digest of their names"),
        "train_minus_dev": Split(rest, "train without dev"),
    }


def refuse_other_counts(converter: Converter, counts: Mapping[str, int], skipped: int) -> None:
    """Refuse splits of other sizes than the published ones, unless a part is asked for. UserError.

    `skipped`: so many videos were left out because they are damaged.
    """
    wrong = {k: n for k, n in converter.published.items() if counts.get(k, 0) != n}
    lacking = [n - counts.get(k, 0) for k, n in wrong.items()]
    if wrong and not converter.partial and (min(lacking) < 0 or sum(lacking) != skipped):
        told = ", ".join(
            f"{name}: {counts.get(name, 0)} videos, published are {n}" for name, n in wrong.items()
        )
        raise UserError(
            f"{converter.source}: {told}; a part of the dataset is taken with convert.partial=true"
        )
