"""DAVIS-2016 (Perazzi et al., CVPR 2016) and DAVIS-2017, semi-supervised and unsupervised, as published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial as bound
from pathlib import Path
from typing import Literal

import numpy as np

from vocl.data.convert.converter import Split, refuse_other_counts
from vocl.data.convert.trees import (
    VideoByVideo,
    by_stem,
    content_of,
    encoded,
    names_in,
    need,
    refuse_absent,
    refuse_special,
)
from vocl.data.images import frame_files, opened
from vocl.data.sources.davis import listed_sequences
from vocl.data.sources.files import FolderVideo, read_mask
from vocl.data.store.record import Record
from vocl.errors import UserError
from vocl.interface import VOID

_SITE = "https://davischallenge.org"
_LISTS_2016 = {"train": "train.txt", "validation": "val.txt"}


class _Davis(VideoByVideo):
    """`SOURCE/{JPEGImages,ANNOTATIONS}/<resolution>/<sequence>`; `videos`: the split of each sequence."""

    videos: dict[str, str]
    binary: bool

    def __init__(self, source: Path, resolution: str, annotations: str, year: str, *, partial: bool) -> None:
        super().__init__(source, partial=partial)
        parts = f"JPEGImages, {annotations} and ImageSets"
        told = f"download DAVIS-{year} from {_SITE}, so that {parts} are in {source}"
        self.frames = need(source / "JPEGImages" / resolution, told)
        self.masks = need(source / annotations / resolution, told)
        self.present = names_in(self.frames)

    def frames_of(self, name: str) -> Sequence[Path]:
        """By name alone."""
        return frame_files(self.frames / name)

    def splits(self, found: Mapping[str, Sequence[str]]) -> dict[str, Split]:
        """Those of the dataset; `trainval` is both."""
        every = super().splits(found)
        both = sorted([*found.get("train", ()), *found.get("validation", ())])
        return every | {"trainval": Split(both, "train and validation")}

    def take(self, split: str, origin: Path) -> None:
        """Let the sequences of a list belong to a split."""
        listed = _sequences(origin)
        if not self.partial:
            refuse_absent(listed, self.present, origin, self.frames)
        there = set(self.present)
        again = next((name for name in listed if name in self.videos), None)
        if again is not None:
            raise UserError(f"{origin}: names {again}, which is of {self.videos[again]}")
        self.videos |= {name: split for name in listed if name in there}

    def refuse_counts(self) -> None:
        """Refuse other numbers than the published ones, and none. UserError."""
        splits = list(self.videos.values())
        refuse_other_counts(self, {split: splits.count(split) for split in splits}, skipped=0)
        if not self.videos:
            raise UserError(f"{self.frames}: holds no sequence of the lists in {self.source / 'ImageSets'}")

    def whole(self, name: str) -> Record:
        """A sequence with a mask for each frame."""
        video = FolderVideo(name, self.frames / name, self.masks / name, self.binary)
        for path in (*video.frame_paths, *(video.mask_paths or ())):
            refuse_special(path)
        return Record(name, self.videos[name], encoded(video.frame_paths), masks=list(video.labels()))


class Davis2016(_Davis):
    """One object per sequence: whatever is above 0 in a mask. There is no void.

    Which sequences belong to it is said by ImageSets/<resolution>, or ImageSets/2016 of a DAVIS-2017
    tree, whose masks are merged to one object then; a tree with other lists alone is refused. Where
    ImageSets is absent and a part is asked for, all belong to validation, if their masks are binary.
    """

    binary = True

    def __init__(
        self,
        source: Path,
        *,
        resolution: Literal["480p", "1080p"],
        published: Mapping[str, int] | None,
        partial: bool,
    ) -> None:
        super().__init__(source, resolution, "Annotations", "2016", partial=partial)
        self.published, self.videos = dict(published or {}), {}
        lists = source / "ImageSets"
        folder = next((lists / f for f in (resolution, "2016") if (lists / f / "train.txt").is_file()), None)
        self.unlisted = folder is None
        if folder is not None:
            for split, file in _LISTS_2016.items():
                self.take(split, folder / file)
        elif lists.exists() or not partial:
            found = (
                ", ".join(sorted(p.relative_to(lists).as_posix() for p in lists.glob("*/*.txt"))) or "none"
            )
            raise UserError(
                f"{lists / resolution / 'train.txt'}: no such file, so it is unknown which of the "
                f"{len(self.present)} sequences are DAVIS-2016's; lists there: {found}; add its ImageSets "
                f"({_SITE}), or give a tree of DAVIS-2017 to davis2017"
            )
        else:
            self.videos = dict.fromkeys(self.present, "validation")
        self.refuse_counts()

    def record(self, name: str) -> Record:
        """One sequence."""
        record = self.whole(name)
        if self.unlisted:
            for path in frame_files(self.masks / name):
                _refuse_numbered(path)
        return record


class Davis2017(_Davis):
    """Objects by number, 255 is void. `lists`: of each split, in ImageSets.

    `annotations`: Annotations, or Annotations_unsupervised. `sparse`: splits of which only some frames
    have masks, such as the first; theirs are left out if no sequence of them is there.
    """

    binary = False

    def __init__(
        self,
        source: Path,
        *,
        resolution: Literal["480p", "Full-Resolution"],
        annotations: str,
        lists: Mapping[str, str],
        sparse: Sequence[str],
        published: Mapping[str, int] | None,
        partial: bool,
    ) -> None:
        super().__init__(source, resolution, annotations, "2017", partial=partial)
        self.published, self.videos, self.sparse = dict(published or {}), {}, list(sparse)
        there = set(self.present)
        for split, name in lists.items():
            path = source / "ImageSets" / name
            if split in self.sparse and not (path.is_file() and there & set(_sequences(path))):
                continue
            if path.is_file():
                self.take(split, path)
            elif not partial:
                raise UserError(f"{path}: no such file; it is in DAVIS-2017's download ({_SITE})")
        self.refuse_counts()

    def record(self, name: str) -> Record:
        """One sequence."""
        if self.videos[name] not in self.sparse:
            return self.whole(name)
        frames = FolderVideo(name, self.frames / name, None, self.binary).frame_paths
        folder = self.masks / name
        found = by_stem(
            frames, frame_files(folder) if folder.is_dir() else [], bound(read_mask, binary=False)
        )
        masks = found if any(mask is not None for mask in found) else None
        return Record(name, self.videos[name], encoded(frames), masks=masks)


def _sequences(path: Path) -> list[str]:
    return listed_sequences(content_of(path).decode("utf-8", "replace"))


def _refuse_numbered(path: Path) -> None:
    """Refuse a mask that numbers objects, as those of DAVIS-2017 do. UserError."""
    with opened(path) as image:
        values = np.unique(np.asarray(image)) if image.mode in ("P", "L") else np.zeros(1)
    if 0 < values.max() < VOID:
        raise UserError(
            f"{path}: numbers objects, as masks of DAVIS-2017 do, those of DAVIS-2016 are 0 and 255; "
            "give the tree to davis2017, or add ImageSets"
        )
