"""Single frames of video files, decoded from the nearest key frame before them."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vocl.data.containers import film
from vocl.data.packets import Packets, decoding, opened_container
from vocl.errors import UserError

START = -1  # in the place of a packet's number: the start of the file
MOST_THREADS = 8  # of a decoder: each holds frames of its own


class OpenFilms:
    """Video files that are open in this process, at most `most`; those longest unused are closed.

    What a process has open, another that was forked from it leaves alone: they would share a place in the
    file, and a decoder's threads do not live on in the other.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._of_process: dict[int, OrderedDict[Path, _Film]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return OpenFilms, (self._most,)

    def frames(self, packets: Packets, wanted: Sequence[int]) -> Iterator[np.ndarray]:
        """Frames `wanted`, whose numbers grow, as uint8 h w 3, exactly as reading from the start gives them.
        UserError where one does not decode."""
        own = self._of_process.setdefault(os.getpid(), OrderedDict())
        film = own.pop(packets.path, None) or _Film(packets)
        own[packets.path] = film
        while len(own) > self._most:
            own.popitem(last=False)[1].close()
        return (film.frame(number) for number in wanted)


class _Missed(Exception):
    """A seek led behind the packet that it was to find."""


class _Film:
    """An open video file. What it decodes next is frame `_at` or a later one, if `_decoded` is not None."""

    def __init__(self, packets: Packets) -> None:
        self.packets = packets
        self._decoded: Iterator[Any] | None = None
        self._at = self._first = 0
        self._counts = True  # whether frames are counted, as from the start, or told by their stamps
        self._used = False  # whether something has been decoded since it was opened
        self._open()

    def close(self) -> None:
        """Give back the file and the decoder."""
        self._decoded = None
        self._container.close()

    def frame(self, number: int) -> np.ndarray:
        """Frame `number`, uint8 h w 3. UserError where it does not decode."""
        import av

        starts = self._starts(number)
        if self._decoded is not None and self._first_of(starts[0]) <= self._at <= number:
            starts = [None, *starts]  # to go on decoding is the shortest way
        for start in starts:
            try:
                if start is not None:
                    self._begin(start)
                found = self._read_to(number)
            except (av.error.FFmpegError, _Missed):
                found = None
            if found is not None:
                return self.packets.upright(found.to_ndarray(format="rgb24"))
            self._decoded = None
        raise UserError(f"{self.packets.path}: frame {number} does not decode")

    def _starts(self, number: int) -> list[Any]:
        """Packets from which decoding may lead to frame `number`: the nearest key frame before it; the one
        before that, since streams that are refreshed bit by bit take a while; the start of the file."""
        packets = self.packets
        if not packets.seekable:
            return [START]
        before = np.searchsorted(packets.pts[packets.keys], packets.stamps[number], side="right")
        keys = [int(packets.keys[i]) for i in range(before - 1, max(before - 3, -1), -1)]
        return [*(key for key in keys if key > 0), START]

    def _first_of(self, start: int) -> int:
        """The first frame that decoding from the packet `start` gives for certain."""
        if start == START:
            return 0
        return int(np.searchsorted(self.packets.stamps, self.packets.pts[start]))

    def _begin(self, start: int) -> None:
        """Have `_decoded` give what decoding from the packet `start` does."""
        self._first = self._at = self._first_of(start)
        self._counts = start == START
        if start == START:
            if self._used:
                self._container.close()
                self._open()
            self._decoded, self._used = self._container.decode(self._stream), True
            return
        stamp = int(min(self.packets.pts[start], self.packets.dts[start]))
        self._container.seek(stamp, stream=self._stream, backward=True)
        self._decoded, self._used = self._from(start), True

    def _open(self) -> None:
        path = self.packets.path
        with decoding(path):
            self._container = opened_container(path)
            self._stream = film(self._container, path)
        self._stream.thread_type = "AUTO"
        self._stream.codec_context.thread_count = min(torch.get_num_threads(), MOST_THREADS)

    def _from(self, start: int) -> Iterator[Any]:
        """Decode from the packet `start` on; a seek may lead in front of it."""
        packets, found = self.packets, False
        for packet in self._container.demux(self._stream):
            if not found:
                here = np.flatnonzero((packets.pts == packet.pts) & (packets.pos == packet.pos))
                if len(here) != 1 or here[0] > start:
                    raise _Missed
                if here[0] < start:
                    continue
                found = True
            yield from packet.decode()

    def _read_to(self, number: int) -> Any | None:
        """The decoded frame `number`, or None where it does not come, or damage is on the way to it."""
        for frame in self._decoded or ():
            shown = self._at if self._counts else self._number(frame)
            if shown is None or (frame.is_corrupt and shown >= self._first):
                return None
            self._at = max(self._at, shown + 1)
            if shown >= number:
                return frame if shown == number else None
        return None

    def _number(self, frame: Any) -> int | None:
        """Which frame it is, by its stamp; None where no packet has that stamp."""
        stamps = self.packets.stamps
        if frame.pts is None:
            return None
        found = int(np.searchsorted(stamps, frame.pts))
        return found if found < len(stamps) and stamps[found] == frame.pts else None
