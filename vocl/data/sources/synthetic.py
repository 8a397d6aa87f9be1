"""Videos of procedural sprites: a dataset that needs no files, with exact masks and identities."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge

from vocl.data.annotations import boxes_of
from vocl.data.sources.motion import depth, flow
from vocl.data.sources.scenes import draw_scene
from vocl.data.sources.sprites import LEVELS, Rendering, Scene, render
from vocl.data.truth import Truth
from vocl.errors import UserError
from vocl.interface import Source

CACHE_BYTES = 512 * 2**20  # 600 videos of 8 frames of 48 px are 43 MiB; only far larger splits are evicted


@dataclass(frozen=True)
class SyntheticVideo:
    """A video of `Synthetic`: rendered when first asked for."""

    name: str
    length: int  # frames
    size: tuple[int, int]  # height, width in pixels
    rendering: Callable[[], Rendering]
    scene: Callable[[], Scene]

    def frames(self, indices: Sequence[int]) -> np.ndarray:
        """Frames `indices` as uint8 t h w 3 (RGB)."""
        return self.rendering().frames[np.asarray(indices, dtype=int)]

    def labels(self, indices: Sequence[int]) -> np.ndarray:
        """The label maps of frames `indices`, uint8 t h w: 0 background, else the object's identity."""
        return self.rendering().labels[np.asarray(indices, dtype=int)]

    def annotations(self, names: Sequence[str], indices: Sequence[int]) -> dict[str, np.ndarray]:
        """What `names` (of `Synthetic.annotated`) say of frames `indices`; object o has box o."""
        labels, scene = self.labels(indices), self.scene()
        makers = {
            "masks": lambda: labels,
            "boxes": lambda: boxes_of(labels, len(scene.sprites)),
            "flow": lambda: flow(scene, labels, [int(i) for i in indices]),
            "depth": lambda: depth(scene, labels),
        }
        return {name: makers[name]() for name in names}


class Synthetic(Source):
    """Sprites that move, turn and occlude each other, in three levels of difficulty.

    easy: 2 or 3 large objects, one well-spaced hue each, lightly shaded, on a grey sinusoid, the
    camera still. medium: 3 to 5 patterned objects of any colours that change size, on a coloured
    pattern. hard: 3 to 8, on a background of the objects' own kinds of pattern, under a camera that
    pans with parallax, rolls and zooms, and a drift of the brightness; two objects are look-alike
    twins, objects enter, leave or return, and in half of the scenes a twin is hidden for 3 frames
    or more (videos shorter than 5 frames have no such scene). The constants of the levels are
    `vocl.data.sources.sprites.LEVELS`.

    A video is a function of (`seed`, split, index, `level`, `size_px`, `num_frames`) alone: it
    depends neither on the order of reading nor on the size of any split, and `size_px` scales one
    and the same scene. Labels are object identities, constant over the video, also of an object
    that is hidden or away for a time. The last bits of sines may differ between machines: RGB values
    may then differ by 1 and a few pixels on an edge between two objects change sides.

    For training there are masks, boxes, exact flow, and depth: an object's layer from the front.

    `data_root` is not read. Rendered videos stay in memory, the least recently used leave first.
    Raises `UserError` for an unknown split or level.
    """

    annotated: Mapping[str, str] = {
        "masks": "labels",
        "boxes": "boxes",
        "flow": "vectors",
        "depth": "dense",
    }

    def __init__(
        self,
        split: str,
        data_root: Path | None,
        *,
        level: Literal["easy", "medium", "hard"],
        seed: int,
        size_px: Annotated[int, Ge(16)],
        num_frames: Annotated[int, Ge(1)],
        num_train: Annotated[int, Ge(1)],
        num_dev: Annotated[int, Ge(1)],
        num_validation: Annotated[int, Ge(1)],
    ) -> None:
        numbers = {"train": num_train, "dev": num_dev, "validation": num_validation}
        if split not in numbers:
            raise UserError(
                f"split: the synthetic data has no split {split!r}; choose from {', '.join(numbers)}"
            )
        if level not in LEVELS:
            raise UserError(f"dataset.level: no level {level!r}; choose from {', '.join(LEVELS)}")
        self.split, self.level, self.seed = split, level, seed
        self.size_px, self.num_frames = size_px, num_frames
        self._number = numbers[split]
        self._cache = _Cache(CACHE_BYTES)

    def __len__(self) -> int:
        return self._number

    def __getitem__(self, index: int) -> SyntheticVideo:
        if not 0 <= index < self._number:
            raise IndexError(f"{self.split} has {self._number} videos, no number {index}")
        return SyntheticVideo(
            name=f"{self.split}/{index:05d}",
            length=self.num_frames,
            size=(self.size_px, self.size_px),
            rendering=_Rendered(self, index),
            scene=_Drawn(self, index),
        )

    def truth(self, name: str) -> Truth:
        """The exact masks of the video `name`: object o is the object of label o + 1.

        Raises `UserError` for a name that no video of this split has.
        """
        return Truth.from_labels(self.rendering(self._index(name)).labels)

    def fingerprint(self, name: str) -> str:
        """What a video is a function of."""
        return f"{self.seed} {name} {self.level} {self.size_px} {self.num_frames}"

    def rendering(self, index: int) -> Rendering:
        """Frames, labels and unoccluded extents of video `index` (read-only arrays)."""
        return self._cache.get(index, lambda: self._render(index))

    def scene(self, index: int) -> Scene:
        """What there is in video `index`, and how it moves."""
        return draw_scene(LEVELS[self.level], f"{self.seed}:{self.split}:{index}", self.num_frames)

    def _render(self, index: int) -> Rendering:
        return render(self.scene(index), self.size_px)

    def _index(self, name: str) -> int:
        match = re.fullmatch(rf"{self.split}/(\d{{5,}})", name)
        if match is None or int(match[1]) >= self._number:
            last = f"{self.split}/{self._number - 1:05d}"
            raise UserError(f"{name}: no such video; choose from {self.split}/00000 to {last}")
        return int(match[1])


@dataclass(frozen=True)
class _Rendered:
    """The rendering of a video when called; unlike a closure it survives the way to a worker process."""

    source: Synthetic
    index: int

    def __call__(self) -> Rendering:
        return self.source.rendering(self.index)


@dataclass(frozen=True)
class _Drawn:
    """The scene of a video when called."""

    source: Synthetic
    index: int

    def __call__(self) -> Scene:
        return self.source.scene(self.index)


class _Cache:
    """Renderings by index, the least recently used dropped beyond `limit` bytes; safe among threads."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held: OrderedDict[int, Rendering] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[_Cache], tuple[int]]:
        return _Cache, (self.limit,)  # a worker process starts with an empty one

    def get(self, index: int, make: Callable[[], Rendering]) -> Rendering:
        """What is held for `index`, else what `make` returns (made twice if two threads ask at once)."""
        with self._lock:
            if index in self._held:
                self._held.move_to_end(index)
                return self._held[index]
        made = make()
        with self._lock:
            if index not in self._held:
                self._held[index] = made
                self._bytes += made.num_bytes
            while self._bytes > self.limit and len(self._held) > 1:
                self._bytes -= self._held.popitem(last=False)[1].num_bytes
        return made
