"""Frames of one video file, GIF or folder of images, in order and with constant memory.

Files are probed with PyAV (size, times, rotation: clean errors, nothing on stderr) and decoded with
decord where it is installed and can be trusted, else with PyAV. decord 0.6 cannot be trusted with
- long videos: its thread decodes ahead without limit while the caller computes, so that the whole
  video ends up in memory (github.com/dmlc/decord/issues/208); only what fits `_READ_AHEAD_BYTES`
  whole is given to it;
- rotated videos (frames of zeros), those with several video streams, and videos where it counts other
  frames than the container does;
- frames less than 64 pixels wide: it takes the padding of their rows for further colours;
- codecs that it does not know (AV1), which it refuses.
PyAV also notices a damaged frame that the codec has patched over; decord passes it on as good.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np

from vocl.data.containers import film
from vocl.data.gifs import read_gif
from vocl.data.images import FRAME_SUFFIXES, by, check_sizes, frame_files, image_size, read_frame
from vocl.data.packets import Packets, decoding, opened_container, read_packets
from vocl.errors import UserError

VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm")
_READ_AHEAD_BYTES = 256 * 2**20
_DECORD_FROM_PX = 64
_UNEVEN = 0.25  # of a frame: stamps are rounded, to milliseconds in Matroska
_SAME_RATE = 0.01  # 30 asked of a 29.97 video means "all frames", not a mistake


@dataclass(frozen=True)
class VideoReader:
    """A video that is read from its start to its end, as often as it is iterated.

    `size` is (height, width); `length` counts the frames that iteration yields; `fps` is None for a
    folder, which has no clock; `indices` are the source frames behind them, never decreasing; `times`:
    when they are shown, in seconds from the first (None: no clock); `pixel_aspect`: how many times as
    wide as high a pixel is.
    """

    path: Path
    name: str
    size: tuple[int, int]
    fps: float | None
    length: int
    indices: np.ndarray
    times: np.ndarray | None
    pixel_aspect: Fraction
    _decode: Callable[[Sequence[int]], Iterator[np.ndarray]]

    @property
    def uneven_times(self) -> np.ndarray | None:
        """The times, where frames do not follow each other at `fps`; else None."""
        if self.times is None or self.fps is None:
            return None
        even = np.arange(self.length) / self.fps
        return None if np.abs(self.times - even).max() < _UNEVEN / self.fps else self.times

    def __iter__(self) -> Iterator[np.ndarray]:
        """Frames as uint8 h w 3 (RGB). UserError where one does not decode."""
        wanted, repeats = np.unique(self.indices, return_counts=True)
        frames = self._decode([int(i) for i in wanted])
        for frame, times in zip(frames, repeats, strict=True):
            check_frame(self.path, frame, self.size)
            for _ in range(times):
                yield frame

    def windows(self, size: int) -> Iterator[tuple[int, np.ndarray]]:
        """(number of the first frame, uint8 t h w 3) with t = `size`, less in the last window."""
        assert size > 0, size
        start, window = 0, []
        for frame in self:
            window.append(frame)
            if len(window) == size:
                yield start, np.stack(window)
                start, window = start + size, []
        if window:
            yield start, np.stack(window)


def check_frame(path: Path, frame: np.ndarray, size: tuple[int, int]) -> None:
    """Refuse a decoded frame that is not of `size` and three colours. UserError."""
    if frame.shape[:2] != size:
        raise UserError(f"{path}: a frame is {by(frame.shape)}, the first is {by(size)}")
    if frame.shape[2:] != (3,):
        raise UserError(f"{path}: does not decode to frames of three colours")


@dataclass(frozen=True)
class _Stream:
    """What a probe says: size, the time of every source frame in seconds, and how to decode some of them."""

    size: tuple[int, int]
    times: np.ndarray
    fps: float | None
    decode: Callable[[Sequence[int]], Iterator[np.ndarray]]
    pixel_aspect: Fraction = Fraction(1)


def open_video(path: Path, fps: float | None, max_frames: int | None) -> VideoReader:
    """Open a video file, a .gif or a folder of frames.

    `fps`: take the source frames nearest to this rate's times (None: every frame); `max_frames`:
    stop after so many. UserError, naming the file, for whatever cannot be read as asked.
    """
    path = Path(path)
    if max_frames is not None and max_frames < 1:
        raise UserError(f"{path}: max_frames is {max_frames}; choose at least 1, or null for all frames")
    stream = _probe(path)
    indices = _indices(path, stream, fps)[:max_frames]
    if path.is_dir():
        files = frame_files(path)
        check_sizes([files[i] for i in indices], stream.size)
    rate = stream.fps if fps is None else float(fps)
    name = path.resolve().name if path.is_dir() else path.stem
    times = None
    if stream.fps is not None and rate is not None:
        own = fps is None or _is_own_rate(fps, stream.fps)
        times = stream.times[indices] - stream.times[0] if own else np.arange(len(indices)) / rate
    return VideoReader(
        path, name, stream.size, rate, len(indices), indices, times, stream.pixel_aspect, stream.decode
    )


def _is_own_rate(fps: float, of_stream: float) -> bool:
    return math.isclose(fps, of_stream, rel_tol=_SAME_RATE)


def _probe(path: Path) -> _Stream:
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    if path.is_dir():
        return _folder(path)
    suffix = path.suffix.lower()
    if suffix not in (*VIDEO_SUFFIXES, ".gif"):
        known = ", ".join((*VIDEO_SUFFIXES, ".gif"))
        raise UserError(
            f"{path}: unknown kind of video '{path.suffix}'; choose from {known}, "
            f"or a folder of {', '.join(FRAME_SUFFIXES)} frames"
        )
    if path.stat().st_size == 0:
        raise UserError(f"{path}: empty file")
    return _gif(path) if suffix == ".gif" else _container(path)


def _indices(path: Path, stream: _Stream, fps: float | None) -> np.ndarray:
    """The source frames nearest to the times of the rate asked for; by time, so variable rates are right."""
    every = np.arange(len(stream.times))
    if fps is None:
        return every
    if not (math.isfinite(fps) and fps > 0):
        raise UserError(f"{path}: fps is {fps}; choose a number above 0, or null for every frame")
    if stream.fps is None:
        raise UserError(f"{path}: has no frame rate, so fps {fps:g} cannot be met; set fps to null")
    if _is_own_rate(fps, stream.fps):
        return every
    if fps > stream.fps:
        raise UserError(f"{path}: fps is {fps:g}, the video has {stream.fps:g}; choose at most that, or null")
    times = stream.times - stream.times[0]
    duration = times[-1] + 1 / stream.fps
    targets = np.arange(max(1, math.ceil(duration * fps - 1e-6))) / fps
    right = np.searchsorted(times, targets).clip(0, len(times) - 1)
    left = (right - 1).clip(0)
    return np.where(targets - times[left] <= times[right] - targets, left, right)


def _folder(path: Path) -> _Stream:
    files = frame_files(path)
    if not files:
        raise UserError(f"{path}: no frames; a folder needs {', '.join('*' + s for s in FRAME_SUFFIXES)}")
    times = np.arange(len(files), dtype=float)
    return _Stream(image_size(files[0]), times, None, partial(_folder_frames, files))


def _folder_frames(files: Sequence[Path], wanted: Sequence[int]) -> Iterator[np.ndarray]:
    return (read_frame(files[number]) for number in wanted)


def _gif(path: Path) -> _Stream:
    gif = read_gif(path)
    return _Stream(gif.size, gif.times, gif.fps, gif.frames)


def _container(path: Path) -> _Stream:
    packets = read_packets(path)
    decode = partial(_container_frames, packets)
    return _Stream(packets.size, packets.times, packets.fps, decode, packets.pixel_aspect)


def _container_frames(packets: Packets, wanted: Sequence[int]) -> Iterator[np.ndarray]:
    height, width = packets.size
    fits = packets.length * height * width * 3 <= _READ_AHEAD_BYTES and width >= _DECORD_FROM_PX
    trusted = packets.alone and not packets.upright.changes
    reader = _open_decord(packets.path) if fits and trusted else None
    if reader is not None and len(reader) == packets.length:
        return _decord_frames(packets.path, reader, wanted)
    return _av_frames(packets, wanted)


def _open_decord(path: Path):
    """A decord reader, or None where decord is missing or does not know the codec."""
    try:
        import decord
    except (ImportError, OSError):  # no wheel for this machine, or its libraries do not load
        return None
    decord.logging.set_level(decord.logging.QUIET)
    with _no_stderr(), suppress(RuntimeError, decord.DECORDError):
        return decord.VideoReader(str(path.resolve()))
    return None


def _decord_frames(path: Path, reader, wanted: Sequence[int]) -> Iterator[np.ndarray]:
    # One next() per frame and never an index: len() of a decord array counts elements, a batch costs
    # memory, and a seek backwards decodes again from the last key frame.
    position = 0
    for number in wanted:
        try:
            with _no_stderr():
                if number > position:
                    reader.skip_frames(number - position)
                frame = reader.next().asnumpy()
        except Exception:  # decord raises several kinds, StopIteration among them
            raise UserError(f"{path}: frame {number} does not decode") from None
        position = number + 1
        yield frame


def _av_frames(packets: Packets, wanted: Sequence[int]) -> Iterator[np.ndarray]:
    path, left = packets.path, list(reversed(wanted))
    with decoding(path), opened_container(path) as container:
        stream = film(container, path)
        stream.thread_type = "AUTO"
        for number, frame in enumerate(container.decode(stream)):
            if frame.is_corrupt:
                raise UserError(f"{path}: frame {number} does not decode")
            if number == left[-1]:
                left.pop()
                yield packets.upright(frame.to_ndarray(format="rgb24"))
            if not left:
                return
    raise UserError(f"{path}: frame {left[-1]} does not decode: the video ends before it")


@contextmanager
def _no_stderr() -> Iterator[None]:
    """Drop what C code writes to file descriptor 2: decord logs there whatever its log level."""
    if sys.stderr is not None:
        sys.stderr.flush()
    try:
        saved = os.dup(2)
    except OSError:  # the process was started without one
        yield
        return
    try:
        with open(os.devnull, "w") as sink:
            os.dup2(sink.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
