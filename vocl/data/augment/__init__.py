"""Augmentations of training clips: one draw per clip, shared by its frames.

A geometric one says which window of the stored frames is seen; it holds for all views of a clip
and for its annotations. A photometric one changes colours of frames in [0, 1] before they are
normalised, and is drawn anew for every view. The list `dataset.augment` is applied in its order,
geometric ones first; a mirror image is `dataset.flip`. All draw from the generator they are given.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from vocl.data.transforms import Box
from vocl.errors import UserError


class Augmentation:
    """A part of `dataset.augment`: one of the two kinds below."""


class Geometric(Augmentation):
    """Chooses a window of a frame; the window is resized to the model's input."""

    def window(self, size: tuple[int, int], generator: torch.Generator) -> Box:
        """(top, left, height, width) in pixels inside a frame of `size` = (height, width)."""
        raise NotImplementedError


class Photometric(Augmentation):
    """Changes what a frame looks like and leaves everything in its place.

    `anywhere`: whether it also takes frames that are on a GPU, to which it must move what it draws (the
    generator is the host's). Where one of a dataset does not, frames are fitted on the host.
    """

    anywhere: ClassVar[bool] = False

    def __call__(self, frames: Tensor, generator: torch.Generator) -> Tensor:
        """`frames` t 3 h w in [0, 1] to the same; must not change its argument."""
        raise NotImplementedError


def check_window(augmentation: Geometric, window: Box, size: tuple[int, int]) -> None:
    """Refuse a window that does not lie in a frame of `size`: slices would cut it in silence."""
    top, left, height, width = window
    inside = 0 <= top <= size[0] - height and 0 <= left <= size[1] - width
    if not inside or min(height, width) < 1:
        raise UserError(
            f"dataset.augment: {_named(augmentation)}: a window (top, left, height, width) of "
            f"{tuple(window)} in a frame of {size[0]} x {size[1]}"
        )


def check_frames(augmentation: Photometric, frames: Tensor, shape: torch.Size) -> None:
    """Refuse frames of another shape than before: normalising would spread one channel over three."""
    if frames.shape != shape:
        raise UserError(
            f"dataset.augment: {_named(augmentation)}: made frames of shape {list(frames.shape)} of those of "
            f"{list(shape)}; it must keep it"
        )


def _named(augmentation: Augmentation) -> str:
    return f"{type(augmentation).__module__}.{type(augmentation).__qualname__}"


def uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))


def interval(values: list[float], name: str, low: float, high: float) -> tuple[float, float]:
    if len(values) != 2 or not low <= values[0] <= values[1] <= high:
        raise UserError(
            f"dataset.augment: {name}={values}: expected [from, to] with {low} <= from <= to <= {high}"
        )
    return values[0], values[1]
