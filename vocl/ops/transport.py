"""Entropic optimal transport: which patch of one frame goes where in another."""

from __future__ import annotations

import torch
from torch import Tensor


def sinkhorn(cost: Tensor, rows: Tensor, columns: Tensor, epsilon: float, rounds: int) -> Tensor:
    """Transport plans ... n m for `cost` ... n m between the masses `rows` ... n and `columns` ... m.

    Sinkhorn-Knopp: with K = exp(-cost / epsilon) and b = 1, `rounds` times a = rows / (K b) and
    b = columns / (K^T a); the plan is diag(a) K diag(b). It ends on b, so sums over n are exact, and
    those over m as good as the rounds make them. Without gradient, in the type of `cost`, which
    must hold exp(-cost / epsilon): float32 does up to cost / epsilon of about 80, float16 does not.
    """
    with torch.no_grad(), torch.autocast(cost.device.type, enabled=False):
        kernel = torch.exp(-cost / epsilon)
        b = torch.ones_like(columns)
        for _ in range(rounds):
            a = rows / (kernel @ b.unsqueeze(-1)).squeeze(-1)
            b = columns / (a.unsqueeze(-2) @ kernel).squeeze(-2)
        return a.unsqueeze(-1) * kernel * b.unsqueeze(-2)


def uniform_mass(unit: Tensor) -> Tensor:
    """The same mass ... n for each of the vectors `unit` ... n e, 1 in all."""
    return unit.new_full(unit.shape[:-1], 1 / unit.shape[-2])


def spread_mass(unit: Tensor) -> Tensor:
    """Mass ... n of the vectors `unit` ... n e of length 1, 1 in all: in proportion to their L1 norms.

    The L1 norm says over how many channels a vector is spread; between patches it varies little.
    """
    spread = unit.abs().sum(-1)
    return spread / spread.sum(-1, keepdim=True)
