"""Own data as folders of frames, and what every source made of image files shares."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image

from vocl.data.annotations import boxes_of
from vocl.data.images import by, check_sizes, frame_files, image_size, opened, read_frame
from vocl.data.sources.kept import Kept
from vocl.data.store.layout import is_store
from vocl.data.store.source import Stored
from vocl.data.truth import Truth
from vocl.data.whole import check_whole, refuse_a_hole
from vocl.errors import UserError
from vocl.interface import VOID, Source

NUMBER = re.compile(r"\d+")
_LAYOUT = "<split>/<video>/frames/*.jpg or *.png, and <split>/<video>/masks/*.png where there is a truth"


@dataclass(frozen=True)
class FolderVideo:
    """A video whose frames, and masks where there are any, are image files (`interface.Video`).

    Nothing is read before it is asked for. Masks belong to frames by their place in natural order,
    so the two folders may number differently. `binary`: every value above 0 is the one object
    (DAVIS-2016 writes it as 255); otherwise 0 is background, 255 void and the rest are objects.
    """

    in_threads: ClassVar[bool] = True

    name: str
    frame_folder: Path
    mask_folder: Path | None
    binary: bool

    @cached_property
    def frame_paths(self) -> list[Path]:
        """The frames in order. UserError where there are none."""
        files = frame_files(self.frame_folder) if self.frame_folder.is_dir() else []
        if not files:
            raise UserError(f"{self.frame_folder}: no frames; it must hold *.jpg or *.png")
        return files

    @cached_property
    def mask_paths(self) -> list[Path] | None:
        """One mask per frame, or None. UserError where their numbers differ."""
        if self.mask_folder is None:
            return None
        found = frame_files(self.mask_folder) if self.mask_folder.is_dir() else []
        files = [path for path in found if path.suffix.lower() == ".png"]
        if len(files) != self.length:
            raise UserError(f"{self.mask_folder}: {len(files)} masks (*.png) for {self.length} frames")
        for frame, mask in zip(self.frame_paths, files, strict=True):
            numbers = [NUMBER.findall(path.stem) for path in (frame, mask)]
            if all(numbers) and int(numbers[0][-1]) != int(numbers[1][-1]):
                raise UserError(f"{mask}: stands beside frame {frame.name}; masks are numbered as frames")
        return files

    @property
    def length(self) -> int:
        """Number of frames."""
        return len(self.frame_paths)

    @cached_property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels, from the first frame's header."""
        return image_size(self.frame_paths[0])

    def frames(self, indices: Sequence[int]) -> np.ndarray:
        """Frames `indices` as uint8 t h w 3. UserError where one does not decode or has another size."""
        out = np.empty((len(indices), *self.size, 3), np.uint8)
        for place, index in enumerate(indices):
            path = self.frame_paths[index]
            frame = read_frame(path)
            self._same_size(path, frame.shape[:2], "the first frame has")
            out[place] = frame
        return out

    def annotations(self, names: Sequence[str], indices: Sequence[int]) -> dict[str, np.ndarray]:
        """Masks of frames `indices`, and boxes around them: box o is that of label o + 1."""
        labels = self.labels(indices)
        most = int(labels[labels != VOID].max(initial=0))
        return {name: labels if name == "masks" else boxes_of(labels, most) for name in names}

    def labels(self, indices: Sequence[int] | None = None) -> np.ndarray:
        """The label maps of frames `indices` (None: all), uint8 t h w: 0 background, 1.., 255 void."""
        assert self.mask_paths is not None, self.name
        wanted = range(self.length) if indices is None else indices
        out = np.empty((len(wanted), *self.size), np.uint8)
        for place, path in enumerate(self.mask_paths[i] for i in wanted):
            mask = read_mask(path, self.binary)
            self._same_size(path, mask.shape, "its frame has")
            out[place] = mask
        return out

    def truth(self) -> Truth | None:
        """What the masks say; None without masks."""
        return None if self.mask_paths is None else Truth.from_labels(self.labels())

    def check(self) -> None:
        """Compare counts, and sizes and modes by the headers. UserError for the first file that is wrong."""
        check_sizes(self.frame_paths, self.size)
        for path in (*self.frame_paths, *(self.mask_paths or ())):
            check_whole(path)
        for path in self.mask_paths or ():
            with opened(path) as image:
                self._same_size(path, (image.height, image.width), "its frame has")
                _check_kind(path, image, self.binary)

    def _same_size(self, path: Path, found: tuple[int, ...], other: str) -> None:
        if tuple(found) != self.size:
            turned = " as it is shown" if tuple(found) == self.size[::-1] else ""
            raise UserError(f"{path}: {by(found)} pixels; {other} {by(self.size)}{turned}")


def read_mask(path: Path, binary: bool) -> np.ndarray:
    """One mask as uint8 h w: an indexed or grey PNG of up to 8 bits, value = label, never turned.

    `binary`: above 0 is label 1.
    """
    with opened(path) as image:
        _check_kind(path, image, binary)
        refuse_a_hole(path)
        if not binary:
            # Pillow spreads grey values of 2 and 4 bits over 0 to 255; labels are as they stand in the file.
            step = 255 // (2 ** _depth(path) - 1) if image.mode == "L" else 1
            return np.array(image) // np.uint8(step)
        # A few official binary masks are grey pictures saved in colour.
        grey = image if image.mode in ("P", "L") else image.convert("L")
        return (np.asarray(grey) > 0).astype(np.uint8)


def _depth(path: Path) -> int:
    """Bits per value of a PNG, as its header says; 8 of another kind of image."""
    with path.open("rb") as file:
        header = file.read(25)
    return header[24] if header.startswith(b"\x89PNG") else 8


def _check_kind(path: Path, image: Image.Image, binary: bool) -> None:
    mode = image.mode
    if image.format in ("JPEG", "MPO"):
        raise UserError(f"{path}: is a JPEG, which changes the values of a mask; save masks as PNG")
    valid = ("P", "L", "1", "RGB", "RGBA") if binary else ("P", "L")
    if mode not in valid:
        raise UserError(
            f"{path}: image mode {mode}; a mask is an 8-bit indexed or grey PNG (mode P or L) whose values "
            f"are labels: 0 background, {VOID} void, others objects"
            + ("" if binary or mode != "1" else "; for one object per video set binary=true of the source")
        )


class FolderSource(Source):
    """Videos that are folders of frames and masks; a base of sources."""

    annotated: Mapping[str, str] = {"masks": "labels", "boxes": "boxes"}

    def __init__(self, videos: Sequence[FolderVideo]) -> None:
        self._videos = list(videos)
        if not all(video.mask_folder for video in videos):
            self.annotated = {}
        self._by_name = {video.name: video for video in videos}

    def __len__(self) -> int:
        return len(self._videos)

    def __getitem__(self, index: int) -> FolderVideo:
        return self._videos[index]

    def truth(self, name: str) -> Truth | None:
        """What is true about the video `name`; None when it has no masks."""
        return self._by_name[name].truth()

    def fingerprint(self, name: str) -> str:
        """Names, sizes and times of change of the files of the video's frames."""
        files = ((path.name, path.stat()) for path in self._by_name[name].frame_paths)
        text = "\n".join(f"{file} {stat.st_size} {stat.st_mtime_ns}" for file, stat in files)
        return hashlib.blake2s(text.encode()).hexdigest()

    def check(self) -> None:
        """Look at the headers of all files; call it before anything long starts. UserError."""
        for video in self._videos:
            video.check()


class FrameFolders(Kept):
    """Videos in `<data_root>/<name>`: a prepared store, or folders (an `interface.Source`).

    A store is one of `vocl data prepare`. Folders are `<split>/<video>/{frames,masks}`: frames *.jpg,
    *.jpeg or *.png; masks PNG of up to 8 bits, of the same number and size, 0 background, 255 void,
    other values object ids; `binary`: whatever is above 0 is the one object instead, and nothing is
    void. A video without `masks` has no truth. Splits are the folders' names, or a store's lists;
    `train`: the one that is meant by "train". Only names are read at construction; `check` looks at
    every file's header. How videos are kept is no part of a run's identity: the dataset's name is.
    UserError for a folder that is missing or empty, naming what must be there.
    """

    # The defaults serve classes that inherit from this one; configs say `binary` and `train`.
    def __init__(
        self, split: str, data_root: Path, *, name: str, binary: bool = False, train: str = "train"
    ) -> None:
        root = Path(data_root) / name
        if is_store(root) and binary:
            raise UserError(
                f"{root}: is a store, whose masks are labels already; set binary=false of the source"
            )
        wanted = train if split == "train" else split
        self._source: Source = (
            Stored(wanted, data_root, name=name, train=wanted)
            if is_store(root)
            else _folders(root, wanted, binary)
        )
        self.annotated = self._source.annotated


def _folders(root: Path, split: str, binary: bool) -> FolderSource:
    if not root.is_dir():
        made = "there a store of vocl data prepare"
        raise UserError(f"{root}: no such folder; dataset '{root.name}' needs {root}/{_LAYOUT}, or {made}")
    splits = folder_names(root)
    if split not in splits:
        choices = f"choose from {', '.join(splits)}" if splits else f"it must hold {_LAYOUT}"
        raise UserError(f"{root}: has no split '{split}'; {choices}")
    videos = folder_names(root / split)
    if not videos:
        raise UserError(f"{root / split}: holds no video; it must hold <video>/frames/*.jpg or *.png")
    return FolderSource([_video(root / split / video, binary) for video in videos])


def folder_names(folder: Path) -> list[str]:
    """Sorted names of the folders in `folder`, hidden ones left out; none where it is missing."""
    if not folder.is_dir():
        return []
    return sorted(
        entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")
    )


def _video(folder: Path, binary: bool) -> FolderVideo:
    masks = folder / "masks"
    return FolderVideo(folder.name, folder / "frames", masks if masks.is_dir() else None, binary)
