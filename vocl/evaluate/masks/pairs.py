"""Masks of any method and their truth, from folders of PNG or JSON, paired by video and frame."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vocl.data.convert.trees import files_in, names_in
from vocl.data.images import by, image_size
from vocl.data.sources.files import read_mask
from vocl.data.truth import Truth
from vocl.errors import UserError, brief, near
from vocl.evaluate.masks.json_forms import read_videos


@dataclass(frozen=True)
class PngVideo:
    """Label maps of a video, a PNG for each of its frames; `binary`: whatever is above 0 is one object."""

    folder: Path
    files: Mapping[str, Path]  # by their names without ending
    binary: bool

    @property
    def length(self) -> int:
        """Number of frames."""
        return len(self.files)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels, of the first frame."""
        return image_size(next(iter(self.files.values())))

    def labels(self, overlap: str) -> tuple[np.ndarray, int]:
        """The label map t h w uint8, and 0: no point of a map has several labels, whatever `overlap` says."""
        size, maps = self.size, []
        for path in self.files.values():
            maps.append(read_mask(path, self.binary))
            if maps[-1].shape != size:
                raise UserError(f"{path}: {by(maps[-1].shape)} pixels; the first frame has {by(size)}")
        return np.stack(maps), 0

    def only(self, names: Mapping[str, Path]) -> PngVideo:
        """The frames `names` alone, in their order. UserError for one that is not there."""
        for name in names:
            if name not in self.files:
                raise UserError(f"{self.folder}: no mask of frame {brief(name)}, which the truth has")
        return replace(self, files={name: self.files[name] for name in names})


MaskVideo = Truth | PngVideo


@dataclass(frozen=True)
class Pair:
    """Truth and found masks of the same frames of a video, and what a reader must know of how they met."""

    name: str
    truth: MaskVideo
    found: MaskVideo
    notes: tuple[str, ...] = ()


def read_set(path: Path, binary: bool) -> dict[str, MaskVideo]:
    """The videos of a JSON file, of a folder of PNG, or of a folder of such, by their names. UserError."""
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    if path.is_dir():
        return _folder(path, binary)
    if path.suffix.lower() != ".json":
        raise UserError(f"{path}: expected a folder of PNG or a JSON file")
    found: dict[str, MaskVideo] = {name: one for name, one in read_videos(path).items()}
    if binary:
        raise UserError(f"{path}: binary=true is for masks in PNG; in JSON each object has its own")
    if not found:
        raise UserError(f"{path}: has no video")
    return found


def _folder(path: Path, binary: bool) -> dict[str, MaskVideo]:
    own, below = files_in(path, [".png"]), names_in(path)
    if own:
        return {path.resolve().name: _video(path, binary)}
    found: dict[str, MaskVideo] = {
        name: _video(path / name, binary) for name in below if files_in(path / name, [".png"])
    }
    if not found:
        raise UserError(f"{path}: holds no PNG, and no folder that does")
    return found


def _video(path: Path, binary: bool) -> PngVideo:
    return PngVideo(path, {file.stem: file for file in files_in(path, [".png"])}, binary)


def pairs(truth: Mapping[str, MaskVideo], found: Mapping[str, MaskVideo], where: Path) -> Iterator[Pair]:
    """Each video of `truth` with what was found in it, `where`; one video on either side is the same one.

    UserError for one that was not segmented, wholly or in part.
    """
    alone = len(truth) == len(found) == 1
    for name, true in truth.items():
        (other,) = found if alone else (name,)
        own = found.get(other)
        if own is None:
            some = ", ".join(list(found)[:5])
            raise UserError(f"{where}: no masks of video {brief(name)}, it has {some}{near(name, found)}")
        pair = _paired(name, true, own, where)
        met = f"{brief(name)} was scored against what is called {brief(other)} in {where}"
        yield pair if other == name else replace(pair, notes=(met, *pair.notes))


def _paired(name: str, true: MaskVideo, own: MaskVideo, where: Path) -> Pair:
    notes: tuple[str, ...] = ()
    if isinstance(true, PngVideo) and isinstance(own, PngVideo) and not _in_order(true, own):
        more = own.length
        own = own.only(true.files)
        if more := more - own.length:
            notes = (f"{more} masks of {brief(name)} are of frames without a truth",)
    if true.length != own.length:
        raise UserError(
            f"{where}: video {brief(name)} has masks of {own.length} frames, its truth of {true.length}"
        )
    return Pair(name, true, own, notes)


def _in_order(true: PngVideo, own: PngVideo) -> bool:
    """Whether frames can only be paired by their order: no name of one is a name of the other."""
    return true.length == own.length and not true.files.keys() & own.files.keys()
