"""What a video container says of its streams and of its own length, beyond the frames themselves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vocl.errors import UserError

_BOXES = (b"ftyp", b"moov", b"mdat", b"moof", b"free", b"skip", b"wide", b"styp", b"sidx", b"mfra")
_EBML, _SEGMENT, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675  # elements of Matroska and WebM,
_PARTS = (  # and those in a segment or a cluster: header, tracks, tags ...; time, block, void ...
    *(0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1254C367, 0x1043A770, 0x1941A469, 0x1C53BB6B),
    *(0xE7, 0xA3, 0xA0, 0xAF, 0xA7, 0xAB, 0x5854, 0xEC, 0xBF),
)


@dataclass(frozen=True)
class Upright:
    """How a decoded frame becomes the one that a player shows: rows and columns change places
    (`transposed`), then it is mirrored from left to right and from top to bottom."""

    transposed: bool
    left_right: bool
    top_down: bool

    @classmethod
    def of(cls, frame: Any) -> Upright:
        """From the display matrix of a decoded PyAV frame; a frame without one stays as it is."""
        from av.sidedata.sidedata import Type

        found = frame.side_data.get(Type.DISPLAYMATRIX)
        if found is None:
            return cls(False, False, False)
        # A point (x, y) is shown at (a x + c y, b x + d y), but for a shift.
        a, b, _, c, d, *_ = np.frombuffer(bytes(found), np.int32).tolist()
        if abs(b) + abs(c) > abs(a) + abs(d):
            return cls(True, c < 0, b < 0)
        return cls(False, a < 0, d < 0)

    @property
    def changes(self) -> bool:
        """Whether frames are not shown as they are stored."""
        return self.transposed or self.left_right or self.top_down

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """`pixels` h w c as they are shown."""
        shown = pixels.swapaxes(0, 1) if self.transposed else pixels
        shown = shown[:: -1 if self.top_down else 1, :: -1 if self.left_right else 1]
        return np.ascontiguousarray(shown)


def film(container: Any, path: Path) -> Any:
    """The video stream of an open PyAV container that players show, as ffmpeg chooses.

    No attached picture (the cover of an album); the one that is marked as default; then the largest.
    UserError where there is none.
    """
    from av.stream import Disposition

    films = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    streams = [s for s in films if s.codec_context is not None]
    if not streams:
        unknown = " that can be decoded" if films else ""
        raise UserError(f"{path}: holds no video stream{unknown}")
    return max(streams, key=lambda s: (bool(s.disposition & Disposition.default), s.width * s.height))


def refuse_cut(path: Path) -> None:
    """Refuse a file of which its boxes say that it goes on. UserError.

    Known are AVI, Matroska, WebM, MP4 and QuickTime. A live recording does not say where it ends, but
    where each part of it does.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(4096)
        if start[:4] == b"RIFF":
            end: int | None = _riff_end(file, size)
        else:
            end = _boxes_end(file, size) if start[4:8] in _BOXES else _segment_end(file, start, path, size)
    if end is not None and end > size:
        raise UserError(f"{path}: cut short; it announces {end} bytes and holds {size}")


def _riff_end(file: Any, size: int) -> int:
    """End of the last RIFF chunk; a large AVI has several. One that was written into a pipe says none."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(8)
        if head[:4] != b"RIFF" or head[4:] == b"\xff" * 4:
            break
        at += 8 + int.from_bytes(head[4:], "little")
    return at


def _boxes_end(file: Any, size: int) -> int:
    """End of the last box of an MP4 that is of a known kind: what else is behind them is no part of it."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:], "big")
        if head[4:8] not in _BOXES or length < 8:  # a length of 0 is up to the end
            break
        at += length
    return at


def _segment_end(file: Any, start: bytes, path: Path, size: int) -> int | None:
    """End of a Matroska segment, which follows the EBML header, or of its last part where it says none;
    None for another file. UserError where its parts do not follow each other up to its end."""
    found, at = _number(start, 0, marked=True)
    if found != _EBML:
        return None
    length, at = _number(start, at)
    found, at = _number(start, at + (length or 0), marked=True)
    length, at = _number(start, at)
    if found != _SEGMENT:
        return None
    end = None if length is None else at + length
    if end is not None and end > size:
        return end
    behind = _parts_end(file, at, size if end is None else end)
    if end is not None and behind != end:
        raise UserError(f"{path}: does not decode, its parts do not follow each other at byte {behind}")
    return behind


def _parts_end(file: Any, at: int, end: int) -> int:
    """Where the known parts end that follow each other from byte `at` on; of a cluster each block counts."""
    while at < end:
        file.seek(at)
        head = file.read(12)
        found, behind = _number(head, 0, marked=True)
        length, behind = _number(head, behind)
        if found not in (_CLUSTER, *_PARTS) or (length is None and found != _CLUSTER):
            break
        at += behind + (0 if found == _CLUSTER else length or 0)
    return at


def _number(data: bytes, at: int, marked: bool = False) -> tuple[int | None, int]:
    """An EBML number, and where it ends; `marked`: with the bit that says its length, as identifiers are
    written. None for "unknown", which is all ones."""
    if at >= len(data) or not data[at]:
        return None, at
    width = 9 - data[at].bit_length()
    value = int.from_bytes(data[at : at + width], "big")
    mask = (1 << 7 * width) - 1
    if marked:
        return value, at + width
    return (None if value & mask == mask else value & mask), at + width
