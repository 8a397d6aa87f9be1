"""Where the slots of the first frame come from."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from vocl.ops.random import normal


class Learned(nn.Module):
    """One learned set of slots, the same for every video (SlotContrast).

    Drawn from N(0, 1/d); training and test are identical and deterministic.
    """

    learned: ClassVar[bool] = True  # each slot is a row of `slots`, which events may fill

    def __init__(self, num_slots: int, slot_dim: int) -> None:
        super().__init__()
        self.slots = nn.Parameter(torch.randn(1, num_slots, slot_dim) * slot_dim**-0.5)

    def forward(self, key: Tensor) -> Tensor:
        """Slots b k d for clips with keys `key` (b)."""
        return self.slots.expand(len(key), -1, -1)


class Queries(Learned):
    """As `Learned`, drawn by Xavier's uniform rule over the table k d (SOLV)."""

    def __init__(self, num_slots: int, slot_dim: int) -> None:
        super().__init__(num_slots, slot_dim)
        nn.init.xavier_uniform_(self.slots[0])


class Gaussian(nn.Module):
    """Slots sampled from one learned Gaussian that all slots share (Slot Attention, VideoSAUR).

    Fresh noise for each video, also at test; drawn from the clip's key, so that it is reproducible.
    """

    def __init__(self, num_slots: int, slot_dim: int) -> None:
        super().__init__()
        self.num_slots = num_slots
        self.mean = nn.Parameter(torch.zeros(1, 1, slot_dim))
        self.log_std = nn.Parameter(torch.full((1, 1, slot_dim), math.log(slot_dim**-0.5)))

    def forward(self, key: Tensor) -> Tensor:
        """Slots b k d for clips with keys `key` (b)."""
        noise = normal(key, "slots", (self.num_slots, self.mean.shape[-1]))
        return self.mean + noise.to(self.mean.device) * self.log_std.exp()


class XavierGaussian(Gaussian):
    """As `Gaussian`, its mean and log-deviation drawn by Xavier's uniform rule: deviations near 1.

    Locatello et al.'s own initialisation.
    """

    def __init__(self, num_slots: int, slot_dim: int) -> None:
        super().__init__(num_slots, slot_dim)
        nn.init.xavier_uniform_(self.mean)
        nn.init.xavier_uniform_(self.log_std)
