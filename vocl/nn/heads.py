"""Heads: what slots are compared by, where that is not the slots themselves."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from vocl.nn.blocks import mlp


class UnitMLP(nn.Module):
    """An MLP of one hidden layer, `hidden_ratio` times as wide as a slot, then vectors of length 1.

    Runs in float32 under autocast.
    """

    def __init__(self, slot_dim: int, *, hidden_ratio: Annotated[float, Ge(0.1)]) -> None:
        super().__init__()
        self.mlp = mlp([slot_dim, round(hidden_ratio * slot_dim), slot_dim])

    def forward(self, slots: Tensor) -> Tensor:
        """Unit vectors ... d from `slots` ... d."""
        with torch.autocast(slots.device.type, enabled=False):
            return F.normalize(self.mlp(slots.float()), dim=-1, eps=1e-12)
