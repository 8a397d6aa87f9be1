"""Sine-cosine codes of positions, without learned parts."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from vocl.interface import Grid

BASE = 10_000.0  # the longest wave is 2 pi times as long


def sine_cosine(positions: Tensor, dim: int) -> Tensor:
    """Codes n d of `positions` (n, in steps): sines, then cosines, of `dim` / 2 falling frequencies."""
    assert dim % 2 == 0, f"width {dim} is odd"
    rates = BASE ** -(torch.arange(dim // 2, dtype=torch.float64, device=positions.device) * 2 / dim)
    angles = positions.to(torch.float64).unsqueeze(-1) * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1).float()


def grid_code(grid: Grid, dim: int, device: torch.device | str = "cpu") -> Tensor:
    """Codes n d of the places of `grid`, row by row: half of the channels say the row, half the column."""
    assert dim % 4 == 0, f"width {dim} is no multiple of 4"
    rows, columns = (sine_cosine(torch.arange(n, device=device), dim // 2) for n in grid)
    both = [rows.unsqueeze(1).expand(-1, grid.columns, -1), columns.expand(grid.rows, -1, -1)]
    return rearrange(torch.cat(both, dim=-1), "r s d -> (r s) d")
