"""Single images from disk: the frames of a folder, their order, size and pixels.

A frame is as a viewer shows it: turned or mirrored as its EXIF orientation says.
"""

from __future__ import annotations

import io
import itertools
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from vocl.data.whole import refuse_a_hole
from vocl.errors import UserError

FRAME_SUFFIXES = (".jpg", ".jpeg", ".png")
# Whatever a file is named, Pillow goes by its content, and for some kinds (EPS) starts other programs.
_KINDS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
_UNREADABLE = (  # what Pillow raises at damaged files
    *(OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, ArithmeticError),
    *(NotImplementedError, struct.error, zlib.error, Image.DecompressionBombError),
)
_COLOUR_MODES = ("RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "YCbCr")

_PNG = b"\x89PNG\r\n\x1a\n"
_PLAIN = {b"IHDR", b"IDAT", b"IEND", b"sRGB", b"gAMA", b"cHRM", b"pHYs", b"sBIT", b"tIME"}  # chunks
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ON_ITS_SIDE = (5, 6, 7, 8)


_SUFFIXES = {
    "JPEG": ".jpg",
    "MPO": ".jpg",
    "PNG": ".png",
    "GIF": ".gif",
    "BMP": ".bmp",
    "TIFF": ".tif",
    "WEBP": ".webp",
}


@dataclass(frozen=True)
class Encoded:
    """The bytes of an image file that lies in another file. `place`: what messages call it."""

    data: bytes
    place: str

    def __str__(self) -> str:
        return self.place


def frame_files(folder: Path) -> list[Path]:
    """The images of a folder in natural order (frame2 before frame10); hidden files do not count."""
    found = [p for p in folder.iterdir() if p.suffix.lower() in FRAME_SUFFIXES and not p.name.startswith(".")]
    found.sort(key=lambda p: natural(p.name))
    for one, next_ in itertools.pairwise(found):
        if one.stem == next_.stem:
            raise UserError(f"{folder}: holds both {one.name} and {next_.name}; keep one file per frame")
    return found


def image_size(path: Path | Encoded) -> tuple[int, int]:
    """(height, width) of a frame as it is shown, from the header alone. UserError where it is no image."""
    with opened(path) as image:
        turned = _orientation(image) in _ON_ITS_SIDE
        return (image.width, image.height) if turned else (image.height, image.width)


def suffix_of(image: Encoded) -> str:
    """What a file of such bytes is called, such as .jpg."""
    with opened(image) as found:
        return _SUFFIXES[str(found.format)]


def read_frame(path: Path | Encoded) -> np.ndarray:
    """One image as it is shown, uint8 h w 3 (RGB). UserError where it does not decode to its end."""
    if isinstance(path, Encoded) and _is_plain_png(path.data):
        plain = _decoded_png(path.data)
        if plain is not None:
            return plain
    with opened(path) as image:
        if image.mode not in _COLOUR_MODES:
            raise UserError(f"{path}: image mode {image.mode}; a frame has 8 bits per channel")
        orientation = _orientation(image)
        if isinstance(path, Path):  # what lies in another file is known by its sum
            refuse_a_hole(path)
        if image.format == "JPEG" and image.mode in ("RGB", "L") and orientation not in _UPRIGHT:
            found = _decoded_jpeg(path.data if isinstance(path, Encoded) else path.read_bytes())
            if found is not None:
                return found
        shown = image.convert("RGB")
        return np.array(shown.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else shown)


def _decoded_jpeg(jpeg: bytes) -> np.ndarray | None:
    """The pixels of a JPEG as Pillow gives them, in half of its time; None where it finds them damaged, which
    Pillow can put into words."""
    import simplejpeg

    try:
        return simplejpeg.decode_jpeg(jpeg, colorspace="RGB")
    except ValueError:
        return None


def _is_plain_png(data: bytes) -> bool:
    """Whether a PNG says nothing that changes its picture, such as that it lies on its side."""
    at, seen = len(_PNG), set()
    while at + 8 <= len(data):
        seen.add(data[at + 4 : at + 8])
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return data.startswith(_PNG) and {b"IHDR", b"IDAT", b"IEND"} <= seen <= _PLAIN


def _decoded_png(png: bytes) -> np.ndarray | None:
    """As `_decoded_jpeg`, for a PNG of three colours of 8 bits; None for others.

    This decoder passes over rows that are missing, so it is for what Pillow has decoded once: when a store
    was made.
    """
    import av

    decoder = av.CodecContext.create("png", "r")
    decoder.options = {"err_detect": "crccheck+explode"}
    decoder.thread_count = 1
    try:
        (frame,) = (*decoder.decode(av.Packet(png)), *decoder.decode(None))
    except (av.error.FFmpegError, ValueError):
        return None
    return frame.to_ndarray() if frame.format.name == "rgb24" else None


def _orientation(image: Image.Image) -> int:
    """What the EXIF data say, 1 (upright) where they say nothing that a viewer would heed."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _UNREADABLE:
        return 1
    return found if isinstance(found, int) and found in _UPRIGHT else 1


@contextmanager
def opened(path: Path | Encoded) -> Iterator[Image.Image]:
    """An open image; whatever Pillow raises while it is read becomes one line that names the file."""
    try:
        size = len(path.data) if isinstance(path, Encoded) else path.stat().st_size
        if size == 0:
            raise UserError(f"{path}: empty file")
        file = io.BytesIO(path.data) if isinstance(path, Encoded) else path
        with Image.open(file, formats=_KINDS) as image:
            yield image
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Image.UnidentifiedImageError:
        raise UserError(f"{path}: not an image") from None
    except _UNREADABLE as error:
        raise UserError(f"{path}: does not decode ({error})") from None


def check_sizes(files: Sequence[Path | Encoded], size: tuple[int, int]) -> None:
    """UserError for the first image whose header says another size than (height, width)."""
    for file in files:
        if (found := image_size(file)) != size:
            raise UserError(f"{file}: {by(found)} pixels; the other frames have {by(size)}")


def by(size: Sequence[int]) -> str:
    """(height, width) as people write it: width x height."""
    return f"{size[1]}x{size[0]}"


def natural(name: str) -> list[tuple[int, str]]:
    """For sorting: frame2 comes before frame10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
