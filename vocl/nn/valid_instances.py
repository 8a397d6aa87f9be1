"""Which slots stand for something that is there."""

from __future__ import annotations

from typing import Annotated

import torch.nn.functional as F
from annotated_types import Ge, Le
from torch import Tensor


def closeness(semantics: Tensor, instances: Tensor) -> Tensor:
    """Cosine b t N P of the slots `instances` b t N P d with `semantics` b t N d, what they started from."""
    return F.cosine_similarity(instances.float(), semantics.float().unsqueeze(3), dim=-1)


class ValidInstances:
    """The indicator of valid instances (SMTC, eq. 11), computed without gradient.

    Instance p of semantics n is valid where n covers a share above `min_area` of the frame, counting
    patches whose probability of n is above `binarise`, and its slot has a cosine above `min_cosine`
    with the slot of n. `inclusive`: the two limits themselves will do (paper), or not (release).
    """

    def __init__(
        self,
        *,
        binarise: Annotated[float, Ge(0), Le(1)],
        min_area: Annotated[float, Ge(0), Le(1)],
        min_cosine: Annotated[float, Ge(-1), Le(1)],
        inclusive: bool,
    ) -> None:
        self.binarise, self.min_area, self.min_cosine = binarise, min_area, min_cosine
        self.inclusive = inclusive

    def area(self, masks: Tensor) -> Tensor:
        """Share b t N of the frame that each semantics covers, from `masks` b t N n."""
        return (masks.detach() > self.binarise).float().mean(-1)

    def __call__(self, masks: Tensor, semantics: Tensor, instances: Tensor) -> Tensor:
        """b t N P bool from `masks` b t N n, slots `semantics` b t N d and `instances` b t N P d."""
        area = self.area(masks).unsqueeze(3)
        close = closeness(semantics.detach(), instances.detach())
        if self.inclusive:
            return (area >= self.min_area) & (close >= self.min_cosine)
        return (area > self.min_area) & (close > self.min_cosine)
