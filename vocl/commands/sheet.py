"""The contact sheet of a video's slots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vocl.commands.overlay import contact_sheet

SHEET: dict[str, Any] = {"columns": 8, "cell_px": 240, "opacity": 0.7, "outline": 1}
SMALL_PX = 160  # frames of a sheet narrower than this are enlarged by a whole factor


def picture(
    frames: np.ndarray, labels: np.ndarray, truth: np.ndarray | None, numbers: Sequence[int], title: str
) -> np.ndarray:
    """A contact sheet of chosen frames; small frames are enlarged pixel by pixel."""
    factor = max(1, round(SMALL_PX / frames.shape[2]))
    frames, labels = _enlarged(frames, factor), _enlarged(labels, factor)
    truth = None if truth is None else _enlarged(truth, factor)
    settings = SHEET | {"cell_px": min(SHEET["cell_px"], frames.shape[2])}
    return contact_sheet(frames, labels, truth, numbers=numbers, title=title, **settings)


def _enlarged(images: np.ndarray, factor: int) -> np.ndarray:
    return images.repeat(factor, axis=1).repeat(factor, axis=2)
