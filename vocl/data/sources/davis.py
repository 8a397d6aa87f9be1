"""DAVIS-2016: one foreground object per video (Perazzi et al., CVPR 2016), in its official layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from vocl.data.sources.files import FolderSource, FolderVideo, folder_names
from vocl.data.sources.kept import Kept
from vocl.data.store.layout import is_store
from vocl.data.store.source import Stored
from vocl.errors import UserError
from vocl.interface import Source

_LISTS = {"train": "train.txt", "validation": "val.txt", "trainval": "trainval.txt"}


class Davis2016(Kept):
    """`<data_root>/<name>`: a store, or {JPEGImages,Annotations,ImageSets}/<resolution>. A `Source`.

    `split`: train, validation or trainval, as ImageSets/<resolution> says, else ImageSets/2016 (of a
    DAVIS-2017 tree); where ImageSets is absent every sequence belongs to validation. `sequences`:
    exactly these, whatever the split is (to train and score on the same few videos); None: all of the
    split. Masks are {0, 255} and 255 is the object (label 1): the dataset has no void. Only names are
    read at construction. UserError for what is missing.
    """

    annotated: Mapping[str, str] = {"masks": "labels", "boxes": "boxes"}

    def __init__(
        self,
        split: str,
        data_root: Path,
        *,
        name: str,
        resolution: Literal["480p", "1080p"],
        sequences: list[str] | None,
    ) -> None:
        root = Path(data_root) / name
        if is_store(root):
            stored_videos = Stored(split, data_root, name=name, train="train", videos=sequences)
            self._source: Source = stored_videos
            self.annotated = stored_videos.annotated
            stored = stored_videos.store.manifest.converter.get("resolution", resolution)
            if stored != resolution:
                raise UserError(f"{root}: is a store of {stored}; dataset.source.resolution={resolution}")
            return
        frames, masks = root / "JPEGImages" / resolution, root / "Annotations" / resolution
        for folder in (frames, masks):
            if not folder.is_dir():
                raise UserError(
                    f"{folder}: no such folder; dataset '{name}' needs JPEGImages, Annotations and ImageSets "
                    f"of DAVIS-2016 (https://davischallenge.org) in {root}"
                )
        if split not in _LISTS:
            raise UserError(f"{root}: has no split '{split}'; choose from {', '.join(_LISTS)}")
        present = folder_names(frames)
        if sequences is None:
            origin, wanted = _listed(split, root / "ImageSets", resolution, present)
        else:
            origin, wanted = "dataset.source.sequences", list(sequences)
        _all_present(wanted, present, origin, frames)
        videos = [FolderVideo(video, frames / video, masks / video, binary=True) for video in wanted]
        self._source = FolderSource(videos)


def _listed(split: str, lists: Path, resolution: str, present: Sequence[str]) -> tuple[str, list[str]]:
    """The sequences of an official list, and where they come from."""
    for path in (lists / folder / _LISTS[split] for folder in (resolution, "2016")):
        if path.is_file():
            return str(path), listed_sequences(path.read_text(encoding="utf-8", errors="replace"))
    if lists.exists() or split != "validation":
        found = ", ".join(sorted(p.relative_to(lists).as_posix() for p in lists.glob("*/*.txt"))) or "none"
        raise UserError(
            f"{lists / resolution / _LISTS[split]}: no such file, so it is unknown which of the "
            f"{len(present)} sequences belong to '{split}'; lists there: {found}; add the official ImageSets "
            "of DAVIS-2016, or name them in dataset.source.sequences"
        )
    return str(lists.parent), list(present)


def listed_sequences(text: str) -> list[str]:
    """The sequences that the text of an official list names, sorted.

    Lines are `/JPEGImages/480p/<sequence>/00000.jpg ...` in DAVIS-2016, `<sequence>` in DAVIS-2017.
    """
    images = [line.split()[0] for line in text.splitlines() if line.strip()]
    return sorted({i.split("/")[-2] if "/" in i else i for i in images})


def _all_present(wanted: Sequence[str], present: Sequence[str], origin: str, frames: Path) -> None:
    if not wanted:
        raise UserError(f"{origin}: names no sequence; {frames} holds {', '.join(present) or 'none'}")
    missing = [video for video in wanted if video not in present]
    if missing:
        raise UserError(
            f"{origin}: {len(missing)} of {len(wanted)} sequences are not in {frames}: {', '.join(missing)}; "
            f"it holds {', '.join(present) or 'none'}"
        )
    if len(set(wanted)) != len(wanted):
        raise UserError(f"{origin}: names a sequence twice; choose each once from {', '.join(present)}")
