"""Frames of an animated GIF, and whether it is whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vocl.data.images import opened
from vocl.errors import UserError

_END, _IMAGE, _EXTENSION = 0x3B, 0x2C, 0x21


@dataclass(frozen=True)
class Gif:
    """What the file `path` says: `size` (height, width), and for how many seconds each frame is shown."""

    path: Path
    size: tuple[int, int]
    waits: tuple[float, ...]

    @property
    def length(self) -> int:
        """Number of frames."""
        return len(self.waits)

    @property
    def times(self) -> np.ndarray:
        """When each frame is shown, in seconds."""
        return np.cumsum([0.0, *self.waits])[:-1]

    @property
    def fps(self) -> float:
        """Frames per second, in the mean."""
        return self.length / float(np.cumsum(self.waits)[-1])

    def frames(self, wanted: Sequence[int]) -> Iterator[np.ndarray]:
        """Frames `wanted`, whose numbers grow, as uint8 h w 3. UserError where one does not decode."""
        with opened(self.path) as image:
            for number in wanted:
                image.seek(number)
                yield np.array(image.convert("RGB"))


def read_gif(path: Path) -> Gif:
    """Read the times and size of a GIF. UserError where it is none, or cut."""
    waits = []
    with opened(path) as image:
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            waits.append((image.info.get("duration") or 100) / 1000)  # 0 means 100 ms to every browser
        size = (image.height, image.width)
        kind = image.format
    # Pillow takes a cut between two frames for the end.
    if kind == "GIF" and not _ends(path.read_bytes()):
        raise UserError(f"{path}: cut short; a GIF ends with the byte 0x3B")
    return Gif(path, size, tuple(waits))


def _ends(data: bytes) -> bool:
    """Whether block follows block up to the end; what is behind it does not matter."""
    at = 13 + _table(data, 10)
    while at < len(data):
        kind = data[at]
        if kind == _END:
            return True
        if kind == _EXTENSION:
            at += 2
        elif kind == _IMAGE:
            at += 11 + _table(data, at + 9)
        else:
            return False
        while at < len(data) and data[at]:  # blocks of up to 255 bytes, the last is empty
            at += 1 + data[at]
        at += 1
    return False


def _table(data: bytes, at: int) -> int:
    """Bytes of the colour table that the flags at byte `at` announce."""
    flags = data[at] if at < len(data) else 0
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
