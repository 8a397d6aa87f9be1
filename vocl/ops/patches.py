"""The grid of a frame's patches, where only their number is known."""

from __future__ import annotations

import math

from vocl.interface import Grid


def grid_of(num_patches: int, size: tuple[int, int]) -> Grid:
    """The rows and columns of `num_patches` patches of a frame of `size`: those whose aspect is nearest."""
    aspect = math.log(size[0] / size[1])
    rows = (r for r in range(1, num_patches + 1) if num_patches % r == 0)
    grids = (Grid(r, num_patches // r) for r in rows)
    return min(grids, key=lambda grid: abs(math.log(grid.rows / grid.columns) - aspect))
