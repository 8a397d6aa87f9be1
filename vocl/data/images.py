"""Single images from disk: the frames of a folder, their order, size and pixels."""

from __future__ import annotations

import itertools
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from vocl.errors import UserError

FRAME_SUFFIXES = (".jpg", ".jpeg", ".png")
_UNREADABLE = (  # what Pillow raises at damaged files
    *(OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, ArithmeticError),
    *(NotImplementedError, struct.error, zlib.error, Image.DecompressionBombError),
)
_COLOUR_MODES = ("RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "YCbCr")

_TAIL_BYTES = 4096  # some writers put a few bytes behind the end of an image


def frame_files(folder: Path) -> list[Path]:
    """The images of a folder in natural order (frame2 before frame10); hidden files do not count."""
    found = [p for p in folder.iterdir() if p.suffix.lower() in FRAME_SUFFIXES and not p.name.startswith(".")]
    found.sort(key=lambda p: _natural(p.name))
    for one, next_ in itertools.pairwise(found):
        if one.stem == next_.stem:
            raise UserError(f"{folder}: holds both {one.name} and {next_.name}; keep one file per frame")
    return found


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) from the header alone. UserError where it is no image."""
    with opened(path) as image:
        return image.height, image.width


def check_whole(path: Path) -> None:
    """Refuse a JPEG or PNG whose end is missing, by its last bytes alone. UserError."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        tail = file.read()
    if b"\xff\xd9" not in tail and b"IEND" not in tail:
        raise UserError(f"{path}: does not decode, its end is missing")


def read_frame(path: Path) -> np.ndarray:
    """One image as uint8 h w 3 (RGB). UserError where it does not decode to its end."""
    with opened(path) as image:
        if image.mode not in _COLOUR_MODES:
            raise UserError(f"{path}: image mode {image.mode}; a frame has 8 bits per channel")
        return np.array(image.convert("RGB"))


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """An open image; whatever Pillow raises while it is read becomes one line that names the file."""
    try:
        if path.stat().st_size == 0:
            raise UserError(f"{path}: empty file")
        with Image.open(path) as image:
            yield image
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Image.UnidentifiedImageError:
        raise UserError(f"{path}: not an image") from None
    except _UNREADABLE as error:
        raise UserError(f"{path}: does not decode ({error})") from None


def check_sizes(files: Sequence[Path], size: tuple[int, int]) -> None:
    """UserError for the first image whose header says another size than (height, width)."""
    for file in files:
        if (found := image_size(file)) != size:
            raise UserError(f"{file}: {by(found)} pixels; the other frames have {by(size)}")


def by(size: Sequence[int]) -> str:
    """(height, width) as people write it: width x height."""
    return f"{size[1]}x{size[0]}"


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
