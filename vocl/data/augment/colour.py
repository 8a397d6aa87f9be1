"""Augmentations that change colours and sharpness; the arithmetic is torchvision's."""

from __future__ import annotations

import math
from typing import Annotated

import torch
import torchvision.transforms.functional as tv
from annotated_types import Ge, Le
from torch import Tensor

from vocl.data.augment import Photometric, interval, uniform
from vocl.errors import UserError


class ColorJitter(Photometric):
    """With chance `p`: brightness, contrast and saturation by a factor from 1 - x to 1 + x, and hue by
    up to `hue` turns, in random order."""

    anywhere = True

    def __init__(
        self,
        *,
        brightness: Annotated[float, Ge(0), Le(1)],
        contrast: Annotated[float, Ge(0), Le(1)],
        saturation: Annotated[float, Ge(0), Le(1)],
        hue: Annotated[float, Ge(0), Le(0.5)],
        p: Annotated[float, Ge(0), Le(1)],
    ) -> None:
        self.p = p
        self.changes = (
            (tv.adjust_brightness, 1.0, brightness),
            (tv.adjust_contrast, 1.0, contrast),
            (tv.adjust_saturation, 1.0, saturation),
            (tv.adjust_hue, 0.0, hue),
        )

    def __call__(self, frames: Tensor, generator: torch.Generator) -> Tensor:
        if uniform(0, 1, generator) >= self.p:
            return frames
        for i in torch.randperm(len(self.changes), generator=generator).tolist():
            change, neutral, reach = self.changes[i]
            amount = uniform(neutral - reach, neutral + reach, generator)
            frames = change(frames, amount) if reach else frames
        return frames


class Grayscale(Photometric):
    """With chance `p`: luma in all three channels."""

    anywhere = True

    def __init__(self, *, p: Annotated[float, Ge(0), Le(1)]) -> None:
        self.p = p

    def __call__(self, frames: Tensor, generator: torch.Generator) -> Tensor:
        return tv.rgb_to_grayscale(frames, 3) if uniform(0, 1, generator) < self.p else frames


class GaussianBlur(Photometric):
    """With chance `p`: a Gaussian of deviation `sigma` (from, to) in pixels, cut at `kernel_px`."""

    anywhere = True

    def __init__(
        self, *, kernel_px: Annotated[int, Ge(1)], sigma: list[float], p: Annotated[float, Ge(0), Le(1)]
    ) -> None:
        if kernel_px % 2 == 0:
            raise UserError(f"dataset.augment: kernel_px={kernel_px}: expected an odd number")
        self.kernel_px, self.sigma, self.p = kernel_px, interval(sigma, "sigma", 0, math.inf), p

    def __call__(self, frames: Tensor, generator: torch.Generator) -> Tensor:
        applied = uniform(0, 1, generator) < self.p
        sigma = max(uniform(*self.sigma, generator), 1e-6)
        return tv.gaussian_blur(frames, [self.kernel_px] * 2, [sigma] * 2) if applied else frames
