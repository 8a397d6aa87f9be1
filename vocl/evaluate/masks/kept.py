"""Soft masks that an evaluation kept: their files, and the model that answers with them."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from vocl.errors import UserError, brief
from vocl.files import read_bytes, write_bytes
from vocl.interface import Clip, Grid, SegmentOptions, Segments, Source, Video, VideoModel

Keep = Callable[[str, np.ndarray], None]  # the name of a video, and its masks
LONGEST = 120  # characters of a file's name


def path_of(folder: Path, name: str) -> Path:
    """Where masks of the video `name` lie; names of videos may hold slashes."""
    safe = name.replace("/", "__")
    if len(safe) > LONGEST:
        safe = hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
    return folder / f"{safe}.npz"


def keeper(folder: Path) -> Keep:
    """Writes soft masks (uint8 t k n) as <video>.npz."""

    def keep(name: str, masks: np.ndarray) -> None:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, masks=masks)
        write_bytes(path_of(folder, name), buffer.getvalue())

    return keep


def read(folder: Path, name: str) -> np.ndarray:
    """Masks t k n of the video `name`. UserError where they are not there or damaged."""
    path = path_of(folder, name)
    try:
        with np.load(io.BytesIO(read_bytes(path)), allow_pickle=False) as content:
            masks: np.ndarray = content["masks"]
    except FileNotFoundError:
        raise UserError(f"{path}: no masks of video {brief(name)} were kept") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: cannot be read as kept masks: {error}") from None
    if masks.ndim != 3 or masks.dtype != np.uint8 or 0 in masks.shape:
        raise UserError(f"{path}: holds {masks.dtype} {list(masks.shape)}, not uint8 masks t k n")
    return masks


class KeptModel(VideoModel):
    """Answers with masks that lie in `folder`, of frames of `size_px`, as the model did for draw `seed`."""

    answers: ClassVar[frozenset[str]] = frozenset({"masks"})

    def __init__(self, folder: Path, size_px: tuple[int, int], seed: int) -> None:
        super().__init__()
        self.folder, self.size_px, self.seed = folder, size_px, seed
        self._last: tuple[str, np.ndarray] | None = None

    def segment(self, clip: Clip, options: SegmentOptions, carry: Any = None) -> Segments:
        if options.seed != self.seed:
            raise UserError(
                f"masks were kept of one draw of the slots (seed {self.seed}), not of seed {options.seed}"
            )
        (name,), frames = clip.names, clip.frames
        assert frames is not None
        if self._last is None or self._last[0] != name:
            self._last = (name, read(self.folder, name))
        masks = self._last[1]
        if int(frames.max()) >= len(masks):
            raise UserError(f"{path_of(self.folder, name)}: holds {len(masks)} frames, asked for more")
        soft = torch.from_numpy(masks[frames[0].numpy()]).float()
        return Segments(_shares(soft).unsqueeze(0), grid_of(soft.shape[2], self.size_px))


def _shares(masks: Tensor) -> Tensor:
    """Soft masks t k n from 0 to 1 whose sum over k, after rounding, is no more than 1."""
    return masks / masks.sum(1, keepdim=True).clamp(min=255)


def grid_of(patches: int, size_px: tuple[int, int]) -> Grid:
    """The grid of so many patches, as square as they can be, on frames of (height, width) pixels."""
    height, width = size_px
    grids = (Grid(rows, patches // rows) for rows in range(1, patches + 1) if patches % rows == 0)
    return min(grids, key=lambda grid: abs(np.log(height * grid.columns / (width * grid.rows))))


class UnseenSource(Source):
    """A split of which only the truth is read."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Video:
        video = self.source[index]
        return _Unseen(video.name, video.length, video.size)

    def truth(self, name: str) -> Any | None:
        return self.source.truth(name)


@dataclass(frozen=True)
class _Unseen(Video):
    """A video whose frames nobody looks at."""

    name: str
    length: int
    size: tuple[int, int]

    def frames(self, indices: Sequence[int]) -> np.ndarray:
        return np.zeros((len(indices), *self.size, 3), np.uint8)

    def annotations(self, names: Sequence[str], indices: Sequence[int]) -> dict[str, np.ndarray]:
        return {}
