"""What is true about a video: one mask per object and frame, the pixels that do not count; or points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict

import numpy as np

from vocl.errors import UserError
from vocl.interface import VOID, Source


class RLE(TypedDict):
    """COCO run-length code of one mask, as pycocotools makes it."""

    size: list[int]
    counts: str | bytes


@dataclass(frozen=True)
class Truth:
    """Per-object masks of a video, run-length coded because objects may overlap.

    `objects[o][t]` is the mask of object o (label o + 1) in frame t, None where it is absent;
    `void[t]` the pixels of frame t that no score may count, None where there are none.
    `size` is (height, width) in pixels.
    """

    size: tuple[int, int]
    length: int
    objects: tuple[tuple[RLE | None, ...], ...]
    void: tuple[RLE | None, ...]
    classes: tuple[str, ...] | None = None  # of the objects, where they are known

    @classmethod
    def from_labels(cls, labels: np.ndarray, classes: Sequence[str] | None = None) -> Truth:
        """From a label map t h w (0 background, 1.. objects, 255 void); `classes` of objects 1, 2, ..., those
        that no frame shows among them."""
        length, height, width = labels.shape
        ids = [int(i) for i in np.unique(labels) if i not in (0, VOID)]
        rows = range(1, max(ids, default=0) + 1)
        objects = tuple(tuple(_encode(frame == i) for frame in labels) for i in rows)
        void = tuple(_encode(frame == VOID) for frame in labels)
        whole = classes is not None and len(classes) >= len(objects)
        known = tuple(classes[: len(objects)]) if classes is not None and whole else None
        return cls((height, width), length, objects, void, known)

    def as_json(self) -> dict[str, Any]:
        """As plain data; `from_json` takes it back."""

        def plain(codes: tuple[RLE | None, ...]) -> list[str | None]:
            return [None if code is None else _text(code) for code in codes]

        return {
            "size": list(self.size),
            "length": self.length,
            "objects": [plain(codes) for codes in self.objects],
            "void": plain(self.void),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Truth:
        """From what `as_json` gave."""
        size = list(content["size"])

        def coded(counts: list[str | None]) -> tuple[RLE | None, ...]:
            return tuple(None if c is None else RLE(size=size, counts=c) for c in counts)

        objects = tuple(coded(counts) for counts in content["objects"])
        return cls((size[0], size[1]), content["length"], objects, coded(content["void"]))

    def at(self, indices: Sequence[int]) -> Truth:
        """What it says of frames `indices`."""
        objects = tuple(tuple(codes[t] for t in indices) for codes in self.objects)
        return replace(self, length=len(indices), objects=objects, void=tuple(self.void[t] for t in indices))

    @property
    def has_object(self) -> bool:
        """Whether any frame has one."""
        return any(code is not None for masks in self.objects for code in masks)

    def labels(self, overlap: str) -> tuple[np.ndarray, int]:
        """The label map t h w uint8, and the number of points that several objects claimed.

        `overlap`: what becomes of such points: "drop" (void), "paint" (the later object wins) or
        "error" (refused).
        """
        from pycocotools import mask as coco

        out = np.zeros((self.length, *self.size), np.uint8)
        contested = 0
        for t in range(self.length):
            codes = ((label, masks[t]) for label, masks in enumerate(self.objects, start=1))
            covered = np.zeros(self.size, bool)
            for label, code in codes:
                if code is None:
                    continue
                mask = coco.decode(code).astype(bool)
                twice = mask & covered
                contested += int(twice.sum())
                if overlap == "error" and twice.any():
                    raise UserError(f"frame {t}: objects overlap; choose protocol.overlap from drop, paint")
                out[t][mask] = label
                if overlap == "drop":
                    out[t][twice] = VOID
                covered |= mask
            if (void := self.void[t]) is not None:
                out[t][coco.decode(void).astype(bool)] = VOID
        return out, contested


def refuse_without_object(source: Source, where: str, split: str, place: str, training: bool = False) -> None:
    """Refuse a split in whose masks nothing can be found. UserError.

    `where` names the dataset, `split` the split in it; `place`: where the config says `dataset`. A split
    without any truth has nothing to score, but may be trained on.
    """
    found = (source.truth(source[i].name) for i in range(len(source)))
    void = None  # whether there is any; None before the first truth
    for truth in (truth for truth in found if truth is not None):
        if not isinstance(truth, Truth) or truth.has_object:
            return
        void = void or any(truth.void)
    if void is None and not training:
        raise UserError(f"{where}: no video of {split} has a truth to score")
    if void is False:
        raise UserError(f"{where}: no frame of {split} has an object, its masks are 0 (background) alone")
    if void:
        hint = f"; if {VOID} is the object, set {place}.source.binary=true"
        raise UserError(
            f"{where}: no frame of {split} has an object, its masks are {VOID} (void) and 0 alone"
            f"{hint if getattr(source[0], 'binary', None) is False else ''}"
        )


@dataclass(frozen=True)
class Keypoints:
    """Named points of a video: `points` t p 3, x and y in pixels from the centre of the first one, visible.

    Point p means the same in every video of a dataset. `size` is (height, width) in pixels.
    """

    size: tuple[int, int]
    points: np.ndarray

    @property
    def length(self) -> int:
        """Number of frames."""
        return len(self.points)


def _text(code: RLE) -> str:
    counts = code["counts"]
    return counts if isinstance(counts, str) else counts.decode("ascii")


def _encode(mask: np.ndarray) -> RLE | None:
    if not mask.any():
        return None
    from pycocotools import mask as coco

    return coco.encode(np.asfortranarray(mask.astype(np.uint8)))
