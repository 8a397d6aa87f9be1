"""Augmentations that choose a part of the frame."""

from __future__ import annotations

import math

import torch

from vocl.data.augment import Geometric, interval, uniform
from vocl.data.transforms import Box
from vocl.errors import UserError

TRIES = 10  # windows drawn before the whole frame is taken, as in torchvision


class RandomResizedCrop(Geometric):
    """A window of a share of the frame's area between `scale` and of an aspect (width / height)
    between `aspect`, uniform in its logarithm (the recipe of Inception, as in torchvision)."""

    def __init__(self, *, scale: list[float], aspect: list[float]) -> None:
        self.scale, self.aspect = interval(scale, "scale", 0, 1), interval(aspect, "aspect", 0, math.inf)
        if min(*self.scale, *self.aspect) <= 0:
            raise UserError(f"dataset.augment: scale {scale} and aspect {aspect}: expected numbers above 0")

    def window(self, size: tuple[int, int], generator: torch.Generator) -> Box:
        for _ in range(TRIES):
            area = size[0] * size[1] * uniform(*self.scale, generator)
            low, high = (math.log(a) for a in self.aspect)
            aspect = math.exp(uniform(low, high, generator))
            height, width = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
            top, left = (uniform(0, 1, generator) for _ in range(2))
            if 0 < height <= size[0] and 0 < width <= size[1]:
                return int(top * (size[0] - height + 1)), int(left * (size[1] - width + 1)), height, width
        return 0, 0, *size
