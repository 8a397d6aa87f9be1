"""The packets of a video file: when its frames are shown, and from where one can begin to decode.

They are read without decoding, once per file. PyAV opens the file: its errors are clean, and nothing
reaches stderr.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vocl.data.containers import Upright, film, refuse_cut
from vocl.errors import UserError


@dataclass(frozen=True)
class Packets:
    """What the packets of the film in `path` say.

    `size` is (height, width) as it is shown, after `upright`; `pixel_aspect`: how many times as wide as high
    a pixel is; `stamps`: when each frame is shown, in
    their order, `unit` seconds each; `alone`: whether the file has no other film. Of the packets, in
    the order of the file: `pts` and `dts`, `pos` (the byte where each begins), and `keys`, numbers of
    those that depend on none before them, by their `pts`. `seekable`: whether the stamps tell frames apart.
    """

    path: Path
    size: tuple[int, int]
    upright: Upright
    pixel_aspect: Fraction
    alone: bool
    unit: float
    announced_fps: float
    stamps: np.ndarray
    pts: np.ndarray
    dts: np.ndarray
    pos: np.ndarray
    keys: np.ndarray
    seekable: bool

    @property
    def length(self) -> int:
        """Number of frames."""
        return len(self.stamps)

    @property
    def times(self) -> np.ndarray:
        """When each frame is shown, in seconds."""
        return self.stamps * self.unit

    @property
    def fps(self) -> float | None:
        """Frames per second; the announced rate is more exact than rounded stamps, but can be nonsense."""
        times, announced = self.times, self.announced_fps
        if len(times) < 2 or times[-1] <= times[0]:
            return announced or None
        measured = float((len(times) - 1) / (times[-1] - times[0]))
        return announced if math.isclose(announced, measured, rel_tol=0.02) else measured


def read_packets(path: Path) -> Packets:
    """Read the packets of a video file, and decode its first frame. UserError where it is cut or is none."""
    stat = path.stat()
    return _read_packets(path, stat.st_size, stat.st_mtime_ns)


@functools.cache  # the sources of a run that look at the same file read it once
def _read_packets(path: Path, size: int, mtime_ns: int) -> Packets:
    with decoding(path), opened_container(path) as container:
        stream, alone = film(container, path), len(container.streams.video) == 1
        aspect = stream.sample_aspect_ratio or Fraction(1)
        announced, unit, rate = stream.frames, float(stream.time_base), float(stream.average_rate or 0)
        # AVI stamps packets in their own order, also where frames are shown in another.
        mistaken = container.format.name == "avi" and bool(stream.codec_context.has_b_frames)
        # Only what they say is kept: the packets themselves would fill memory.
        rows = [_Row.of(packet) for packet in container.demux(stream) if packet.size]
        if "mov" in container.format.name and len(rows) < announced:
            raise UserError(f"{path}: cut short; it announces {announced} frames and holds {len(rows)}")
        if "matroska" in container.format.name and any(a.pos == b.pos for a, b in pairwise(rows)):
            raise UserError(f"{path}: does not decode, a block of it holds several frames")
    if rows and rows[-1].cut:
        raise UserError(f"{path}: cut short; its last frame is not whole")
    refuse_cut(path)
    with decoding(path), opened_container(path) as container:
        first = next(container.decode(film(container, path)), None)
    if first is None:
        raise UserError(f"{path}: holds no frame")
    upright = Upright.of(first)
    shown = (first.width, first.height) if upright.transposed else (first.height, first.width)
    aspect = 1 / aspect if upright.transposed else aspect
    return _packets(path, shown, upright, aspect, alone, unit, rate, rows, mistaken)


class _Row(NamedTuple):
    """A packet without its data."""

    pts: int | None
    dts: int | None
    pos: int
    key: bool
    dropped: bool
    cut: bool

    @classmethod
    def of(cls, packet: Any) -> _Row:
        """The row of a PyAV packet."""
        return cls(
            packet.pts, packet.dts, packet.pos, packet.is_keyframe, packet.is_discard, packet.is_corrupt
        )


def _packets(
    path: Path,
    size: tuple[int, int],
    upright: Upright,
    aspect: Fraction,
    alone: bool,
    unit: float,
    rate: float,
    rows: Sequence[_Row],
    mistaken: bool,
) -> Packets:
    shown = [row.pts for row in rows if not row.dropped]
    stamped = None not in shown  # old containers stamp only some frames
    if not stamped:
        unit, shown = 1 / (rate or 25), list(range(len(shown)))
    stamps = np.sort(np.array(shown, np.int64))
    pts = np.array([-1 if row.pts is None else row.pts for row in rows], np.int64)
    dts = np.array([p if row.dts is None else row.dts for row, p in zip(rows, pts, strict=True)], np.int64)
    keys = np.array([number for number, row in enumerate(rows) if row.key], np.int64)
    distinct = bool((np.diff(stamps) > 0).all())
    return Packets(
        path=path,
        size=size,
        upright=upright,
        pixel_aspect=aspect,
        alone=alone,
        unit=unit,
        announced_fps=rate,
        stamps=stamps,
        pts=pts,
        dts=dts,
        pos=np.array([row.pos for row in rows], np.int64),
        keys=keys[np.argsort(pts[keys], kind="stable")],
        seekable=stamped and distinct and not (mistaken and bool((np.diff(pts) > 0).all())),
    )


def opened_container(path: Path) -> Any:
    """An open PyAV container; its titles may be in any encoding."""
    import av

    return av.open(str(path.resolve()), metadata_errors="replace")


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Within the block what FFmpeg says of the file is one line that names it. UserError."""
    import av

    try:
        yield
    except av.error.FFmpegError as error:
        raise UserError(f"{path}: does not decode as video ({error.strerror})") from None
