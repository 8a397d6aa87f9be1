"""The contact sheet of a video's slots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vocl.commands.pictures.overlay import contact_sheet

SHEET: dict[str, Any] = {"columns": 8, "cell_px": 240, "opacity": 0.7, "outline": 1}
SMALL_PX = 160  # frames of a sheet narrower than this are enlarged by a whole factor
PAPER, GAP_PX = 255, 8  # between sheets


def picture(
    frames: np.ndarray,
    labels: Mapping[str, np.ndarray],
    truth: np.ndarray | None,
    numbers: Sequence[int],
    title: str,
) -> np.ndarray:
    """A contact sheet of chosen frames, with a row for each of `labels`; small frames are enlarged."""
    frames = enlarged(frames)
    labels = {name: enlarged(own) for name, own in labels.items()}
    truth = None if truth is None else enlarged(truth)
    settings = SHEET | {"cell_px": min(SHEET["cell_px"], frames.shape[2])}
    return contact_sheet(frames, labels, truth, numbers=numbers, title=title, **settings)


def enlarged(images: np.ndarray) -> np.ndarray:
    """Images t h w ..., small ones enlarged pixel by pixel."""
    factor = max(1, round(SMALL_PX / images.shape[2]))
    return images.repeat(factor, axis=1).repeat(factor, axis=2)


def stacked(sheets: Sequence[np.ndarray]) -> np.ndarray:
    """Several sheets, uint8 h w 3 each, as one, below each other."""
    width = max(sheet.shape[1] for sheet in sheets)
    edges = (((0, GAP_PX), (0, width - sheet.shape[1]), (0, 0)) for sheet in sheets)
    padded = (np.pad(s, edge, constant_values=PAPER) for s, edge in zip(sheets, edges, strict=True))
    return np.concatenate(list(padded))
