"""From backbone features to what the slots read."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from vocl.interface import Grid
from vocl.nn.blocks import linears, mlp


class MLPAdapter(nn.Module):
    """LayerNorm, then an MLP from the feature width to the slot width (DINOSAUR, SlotContrast).

    `hidden_ratio` is the hidden width over the feature width (2 in the papers). The affine part of
    the LayerNorm is folded into the first layer, so that no gradient goes back to the features of
    a frozen backbone.
    """

    def __init__(
        self, feature_dim: int, slot_dim: int, grid: Grid, *, hidden_ratio: Annotated[float, Ge(0.1)]
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(feature_dim)
        self.mlp = mlp([feature_dim, round(hidden_ratio * feature_dim), slot_dim])

    def forward(self, tokens: Tensor) -> Tensor:
        """`tokens` b t n e to b t n d."""
        first, last = linears(self.mlp)
        normed = F.layer_norm(tokens, self.norm.normalized_shape, eps=self.norm.eps)
        weight = (first.weight * self.norm.weight).t().contiguous()  # this layout: the faster gradient
        bias = first.bias + first.weight @ self.norm.bias
        return last(F.relu_(F.linear(normed, weight.t(), bias)))


class PositionAdapter(nn.Module):
    """Adds a projected coordinate code, then a pre-LayerNorm MLP (SAVi).

    For backbones that do not know where a patch is. The code of a patch is (y, x, 1 - y, 1 - x).
    """

    code: Tensor

    def __init__(
        self, feature_dim: int, slot_dim: int, grid: Grid, *, hidden_dim: Annotated[int, Ge(1)]
    ) -> None:
        super().__init__()
        self.register_buffer("code", coordinates(grid), persistent=False)
        self.project = nn.Linear(4, feature_dim)
        self.norm = nn.LayerNorm(feature_dim)
        self.mlp = mlp([feature_dim, hidden_dim, slot_dim])

    def forward(self, tokens: Tensor) -> Tensor:
        """`tokens` b t n e to b t n d."""
        return self.mlp(self.norm(tokens + self.project(self.code)))


def coordinates(grid: Grid) -> Tensor:
    """Linear position code n 4 of a grid: (y, x, 1 - y, 1 - x), each from 0 to 1."""
    y, x = torch.meshgrid(torch.linspace(0, 1, grid.rows), torch.linspace(0, 1, grid.columns), indexing="ij")
    code = torch.stack([y, x], dim=-1).flatten(0, 1)
    return torch.cat([code, 1 - code], dim=-1)
