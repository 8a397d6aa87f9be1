"""Which frames of a video make a clip."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Gt

from vocl.interface import Video


class Sampling:
    """Chooses the `frames` frames of a clip. `shortest`: frames that a video must have for it."""

    def __init__(self, frames: int) -> None:
        self.frames = frames

    @property
    def shortest(self) -> int:
        return self.frames

    def __call__(self, video: Video, rng: np.random.Generator) -> np.ndarray:
        """Indices t of frames of `video`, in the order in which they are shown; draws from `rng` alone."""
        raise NotImplementedError


class Consecutive(Sampling):
    """Frames that follow each other. `starts`: "any" frame, or multiples of the clip's length."""

    def __init__(self, frames: int, *, starts: Literal["aligned", "any"]) -> None:
        super().__init__(frames)
        self.stride = frames if starts == "aligned" else 1

    def __call__(self, video: Video, rng: np.random.Generator) -> np.ndarray:
        starts = range(0, video.length - self.frames + 1, self.stride)
        start = starts[int(rng.random() * len(starts))]
        return np.arange(start, start + self.frames)


class Spaced(Sampling):
    """Every `gap`-th frame around a centre: offsets (i - t // 2) * gap for frame i of t (SMTC).

    The centre is uniform over the frames that have t // 2 gaps of room on both sides, as in SMTC's
    release. In a video that is too short for one the gap is the largest that fits (the release
    lowers it once, by 1).
    """

    def __init__(self, frames: int, *, gap: Annotated[int, Ge(1)]) -> None:
        super().__init__(frames)
        self.gap = gap

    def __call__(self, video: Video, rng: np.random.Generator) -> np.ndarray:
        before = self.frames // 2
        room = (video.length - 1) // max(2 * before, 1)  # the largest gap with room on both sides
        gap = min(self.gap, max(room, 1))
        first = before * gap
        centres = max(video.length - 2 * first, 1)
        centre = first + int(rng.random() * centres)
        return centre + (np.arange(self.frames) - before) * gap


class AtRate(Spaced):
    """As `Spaced`, with the gap that comes nearest to `fps` in videos stored at `stored_fps`."""

    def __init__(
        self, frames: int, *, fps: Annotated[float, Gt(0)], stored_fps: Annotated[float, Gt(0)]
    ) -> None:
        super().__init__(frames, gap=max(1, round(stored_fps / fps)))


class WholeVideo(Sampling):
    """A whole video, made as long as the clip: a shorter one begins anew (frame i is i mod its
    length, never back and forth: Interpreter), a longer one is cut. Repeated frames are valid ones.

    `start`: where the part of a longer video begins, at its "first" frame or at a "random" one.
    """

    def __init__(self, frames: int, *, start: Literal["first", "random"]) -> None:
        super().__init__(frames)
        self.start = start

    @property
    def shortest(self) -> int:
        return 1

    def __call__(self, video: Video, rng: np.random.Generator) -> np.ndarray:
        spare = max(video.length - self.frames, 0)
        start = int(rng.random() * (spare + 1)) if self.start == "random" else 0
        return (start + np.arange(self.frames)) % video.length
