"""One video on its way into a store: what a converter makes of it, whatever layout it came in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vocl.data.truth import Truth

LEVELS = 2**16 - 1  # codes of integers cover a range by so many steps


@dataclass(frozen=True)
class Dense:
    """Values of every pixel and frame, in their own type or as codes of a range.

    `values` t h w c: floats, or uint16 codes, of which 0 stands for `low` and 65535 for `high`. A flow has
    two channels, x first, in pixels per frame of the record.
    """

    values: np.ndarray
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Record:
    """A video and all that is known of it.

    `frames`: encoded images (JPEG, PNG, ...), byte for byte as they were wherever they were images.
    Truth comes as `masks`, one label map h w uint8 per frame (0 background, 255 void, None where the
    frame was not annotated), or where objects overlap as `objects`. `dense` names: "flow", "depth",
    or others. `points` t p 3: x, y in pixels from the centre of the first one, visible. `classes`: of
    object 1, 2, ... `split`: where its dataset keeps it. `more` is kept as JSON, for people.
    """

    name: str
    split: str
    frames: Sequence[bytes]
    fps: float | None = None
    masks: Iterable[np.ndarray | None] | None = None
    objects: Truth | None = None
    dense: Mapping[str, Dense] = field(default_factory=dict)
    points: np.ndarray | None = None
    classes: Sequence[str] | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
