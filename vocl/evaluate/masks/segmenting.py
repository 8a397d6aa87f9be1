"""The one door through which a model's segments reach a score, a picture or a file."""

from __future__ import annotations

from typing import Any

import torch

from vocl.errors import UserError
from vocl.interface import Clip, SegmentOptions, Segments, VideoModel

TOLERANCE = 1e-3  # of sums of masks, which may come from half precision


def segment(
    model: VideoModel, clip: Clip, options: SegmentOptions, carry: Any = None, overlapping: bool = False
) -> Segments:
    """`model.segment`, refused where its answer does not fit the clip.

    Masks are soft (0 to 1), b t k n with the clip's b and t and n = rows x columns; the masks of a
    patch sum to 1 over k, or to less where slots are gone. `overlapping`: whether the caller can
    use masks that are not exclusive; else they are refused, as a label per pixel would misread them.
    """
    found = model.segment(clip, options, carry)
    wrong = _misfit(found, clip)
    if wrong is None and not found.exclusive and not overlapping:
        wrong = "its masks overlap (exclusive=False), and here each pixel has one label"
    if wrong is not None:
        raise UserError(f"model {type(model).__module__}.{type(model).__qualname__}: segment: {wrong}")
    return found


def _misfit(found: Any, clip: Clip) -> str | None:
    """What is wrong with `found`; None if nothing is."""
    if not isinstance(found, Segments):
        return f"it returned {type(found).__name__}, not vocl.interface.Segments"
    masks, (rows, columns) = found.masks, found.grid
    if not masks.is_floating_point():
        return f"masks of {masks.dtype}; expected soft masks, of floats"
    if masks.ndim != 4 or masks.shape[:2] != clip.valid.shape:
        b, t = clip.valid.shape
        return f"masks of shape {list(masks.shape)} for a clip of b={b}, t={t}; expected b t k n"
    if masks.shape[3] != rows * columns:
        return f"masks of n={masks.shape[3]} patches on a grid of {rows} x {columns}"
    k = masks.shape[2]
    for name, value, expected in (
        ("scores", found.scores, tuple(masks.shape[:3])),
        ("parent", found.parent, (k,)),
    ):
        if value is not None and tuple(value.shape) != expected:
            return f"{name} of shape {list(value.shape)}, expected {list(expected)}"
    if found.slots is not None and found.slots.shape[:3] != masks.shape[:3]:
        return f"slots of shape {list(found.slots.shape)}, expected b t k d with {list(masks.shape[:3])}"
    low, high = torch.aminmax(masks.float())
    if not (low >= -TOLERANCE and high <= 1 + TOLERANCE):  # also where one is not a number
        return f"masks from {float(low):.3g} to {float(high):.3g}; expected soft masks from 0 to 1"
    if found.exclusive and float(masks.float().sum(2).max()) > 1 + TOLERANCE:
        return "the masks of a patch sum to more than 1 over the slots; say exclusive=False if they overlap"
    return None
