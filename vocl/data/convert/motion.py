"""Datasets of moving objects: SegTrack-v2 (Li et al., ICCV 2013) and FBMS-59 (Ochs et al., TPAMI 2014).

Neither layout is verified against the release: both are as published loaders read them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from vocl.data.convert.converter import refuse_other_counts
from vocl.data.convert.trees import (
    UNPACKED,
    VideoByVideo,
    content_of,
    distinct,
    encoded,
    files_in,
    names_in,
    need,
    read_label,
)
from vocl.data.images import FRAME_SUFFIXES, image_size, opened, read_frame
from vocl.data.store.record import Record
from vocl.data.truth import Truth
from vocl.errors import UserError
from vocl.interface import VOID

_SEGTRACK = "download SegTrack-v2 from https://web.engr.oregonstate.edu/~lif/SegTrack2/dataset.html"
_FBMS = "download FBMS-59 from https://lmb.informatik.uni-freiburg.de/resources/datasets/moseg.en.html"
_PICTURES = (*FRAME_SUFFIXES, *UNPACKED)
_TOTALS = ("regions", "frames in this shot")
_HALF = 128  # masks are grey pictures, with JPEG's traces in a few
_SPLITS = {"train": "Trainingset", "test": "Testset"}


class SegTrack(VideoByVideo):
    """`SOURCE/JPEGImages/<sequence>/*` and `SOURCE/GroundTruth/<sequence>[/<object>]/*`, PNG or BMP.

    `objects`: merged to one, as most works have it, or separate, as they may overlap. All sequences are
    of split test, there is no other. An object's mask is what is brighter than half.
    """

    videos: dict[str, Path]

    def __init__(
        self,
        source: Path,
        *,
        objects: Literal["merged", "separate"],
        published: Mapping[str, int] | None,
        partial: bool,
    ) -> None:
        super().__init__(source, partial=partial)
        self.merged, self.published = objects == "merged", dict(published or {})
        told = f"{_SEGTRACK}, so that JPEGImages and GroundTruth are in {source}"
        self.frames, self.masks = (need(source / name, told) for name in ("JPEGImages", "GroundTruth"))
        self.videos = {name: self.frames / name for name in names_in(self.frames)}
        refuse_other_counts(self, {"test": len(self.videos)}, skipped=0)

    def frames_of(self, name: str) -> Sequence[Path]:
        """By name alone."""
        return files_in(self.videos[name], _PICTURES)

    def record(self, name: str) -> Record:
        """One sequence."""
        frames, folder = self.frames_of(name), self.masks / name
        if not frames:
            raise UserError(f"{self.videos[name]}: no frames")
        folders = [folder / number for number in names_in(need(folder, _SEGTRACK))] or [folder]
        labels = [self._object(frames, one) for one in folders]
        if self.merged or len(folders) == 1:
            return Record(
                name, "test", encoded(frames), masks=[m.astype(np.uint8) for m in np.any(labels, 0)]
            )
        truths = [Truth.from_labels(one.astype(np.uint8)) for one in labels]
        nothing = (None,) * len(frames)
        rows = tuple(truth.objects[0] if truth.objects else nothing for truth in truths)
        return Record(
            name, "test", encoded(frames), objects=Truth(image_size(frames[0]), len(frames), rows, nothing)
        )

    def _object(self, frames: Sequence[Path], folder: Path) -> np.ndarray:
        """Where an object is, t h w; masks belong to frames by their order, as names differ in a few."""
        masks = files_in(folder, _PICTURES)
        if len(masks) != len(frames):
            raise UserError(f"{folder}: {len(masks)} masks for {len(frames)} frames")
        size = image_size(frames[0])
        return np.stack([read_label(path, size, _bright) for path in masks])


class Fbms(VideoByVideo):
    """`SOURCE/{Trainingset,Testset}/<sequence>/*.jpg` and `GroundTruth/` in it with some masks.

    A region has a colour; which colour is which region, and which file is of which frame, is said by
    `GroundTruth/*Def.dat` where there is one: region 0 is the background, and so is a colour that it
    does not name. Else colours count upwards and black is the background. Where there is no Def.dat a
    mask is of the frame whose number its name has. `objects`: merged to one, or separate.
    """

    def __init__(
        self,
        source: Path,
        *,
        objects: Literal["merged", "separate"],
        published: Mapping[str, int] | None,
        partial: bool,
    ) -> None:
        super().__init__(source, partial=partial)
        self.merged, self.published = objects == "merged", dict(published or {})
        told = f"{_FBMS}, so that {' and '.join(_SPLITS.values())} are in {source}"
        found = {split: names_in(need(source / folder, told)) for split, folder in _SPLITS.items()}
        refuse_other_counts(self, {split: len(videos) for split, videos in found.items()}, skipped=0)
        self.videos = distinct((split, video) for split, videos in found.items() for video in videos)

    def frames_of(self, name: str) -> Sequence[Path]:
        """By name alone."""
        split, video = self.videos[name]
        return files_in(self.source / _SPLITS[split] / video, _PICTURES)

    def record(self, name: str) -> Record:
        """One sequence."""
        split, video = self.videos[name]
        folder, frames = self.source / _SPLITS[split] / video, self.frames_of(name)
        if not frames:
            raise UserError(f"{folder}: no frames")
        truth = need(folder / "GroundTruth", _FBMS)
        definitions = files_in(truth, ["def.dat"])
        files, colours = (
            _defined(definitions[0], len(frames)) if definitions else (_numbered(truth, frames), None)
        )
        if not files:
            raise UserError(f"{truth}: no mask of any of {len(frames)} frames")
        size = image_size(frames[0])
        regions = {t: read_label(path, size, _colours) for t, path in files.items()}
        if colours is None:
            colours = {colour: n for n, colour in enumerate(_union(regions.values()), start=1)}
        masks = [
            _labelled(regions[t], colours, self.merged) if t in regions else None for t in range(len(frames))
        ]
        return Record(name, split, encoded(frames), masks=masks, more={"annotated": sorted(regions)})


def _bright(path: Path) -> np.ndarray:
    return read_frame(path).max(-1) >= _HALF


def _colours(path: Path) -> np.ndarray:
    """A number for the colour of each pixel: the grey value, or red, green and blue as one."""
    with opened(path) as image:
        if image.mode == "L":
            return np.array(image).astype(np.int64)
    pixels = read_frame(path).astype(np.int64)
    return pixels @ np.array([2**16, 2**8, 1])


def _union(regions: Iterable[np.ndarray]) -> list[int]:
    """All colours but black."""
    return sorted({int(colour) for region in regions for colour in np.unique(region)} - {0})


def _labelled(region: np.ndarray, colours: Mapping[int, int], merged: bool) -> np.ndarray:
    out = np.zeros(region.shape, np.uint8)
    for colour, label in colours.items():
        if not 0 <= label < VOID:
            raise UserError(f"region {label} of FBMS-59 has no label; at most {VOID - 1} do")
        out[region == colour] = min(label, 1) if merged else label
    return out


def _numbered(truth: Path, frames: Sequence[Path]) -> dict[int, Path]:
    """Masks by the place of their frame, by the last number in both names. UserError where a frame lacks."""
    numbers = {_number(path): t for t, path in enumerate(frames)}
    first = min(numbers)
    if sorted(numbers) != list(range(first, first + len(frames))):
        raise UserError(f"{frames[0].parent}: a frame is missing; {len(frames)} are numbered from {first}")
    found = {}
    for path in files_in(truth, _PICTURES):
        if "PROB" in path.stem:  # how sure a region is, not a mask
            continue
        if _number(path) not in numbers:
            raise UserError(f"{path}: there is no frame of that number in {frames[0].parent}")
        found[numbers[_number(path)]] = path
    return found


def _number(path: Path) -> int:
    digits = re.findall(r"\d+", path.stem)
    return int(digits[-1]) if digits else -1


def _mask(path: Path) -> Path:
    """A mask that a Def.dat names, which may have another ending in the release."""
    others = (path.with_suffix(suffix) for suffix in (".ppm", ".pgm", ".png"))
    return next((p for p in (path, *others) if p.is_file()), path)


def _defined(path: Path, length: int) -> tuple[dict[int, Path], dict[int, int]]:
    """Masks by the place of their frame, and regions by their colour, as a Def.dat says. UserError."""
    lines = [line.strip() for line in content_of(path).decode("latin-1").splitlines() if line.strip()]
    colours = dict[int, int]()
    files = dict[int, Path]()
    try:
        for at, line in enumerate(lines):
            if line.startswith("Scale of region"):
                colours[int(lines[at + 1])] = len(colours)
            elif line == "Frame number:":
                files[int(lines[at + 1])] = _mask(path.parent / Path(lines[at + 3]).name)
        regions, total = (int(lines[lines.index(f"Total number of {of}:") + 1]) for of in _TOTALS)
        if len(colours) != regions:
            raise ValueError
    except (ValueError, IndexError):
        raise UserError(f"{path}: is no definition of regions and frames as FBMS-59 has them") from None
    if length < total:
        raise UserError(f"{path}: is of {total} frames, there are {length}")
    strange = [t for t in files if not 0 <= t < length]
    if strange:
        raise UserError(f"{path}: names frame {strange[0]} of {length}")
    return files, colours
