"""The learned position code of a vision transformer, at grids that it was not trained at."""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from vocl.interface import Grid


def resample_as_dino(code: Tensor, grid: Grid) -> Tensor:
    """Position code 1 n e of a square grid of patches at `grid`, as DINO's release resamples it.

    Bicubic without antialiasing, by the factor (rows + 0.1) / native rows, and columns likewise:
    their way around a rounding error, which also shifts where the code is read by a little. timm's
    is antialiased and exact.
    """
    side = round(code.shape[1] ** 0.5)
    if grid == (side, side):
        return code
    factor = ((grid.rows + 0.1) / side, (grid.columns + 0.1) / side)
    maps = rearrange(code, "one (r s) e -> one e r s", r=side)
    maps = F.interpolate(maps, scale_factor=factor, mode="bicubic", align_corners=False)
    assert maps.shape[-2:] == grid, (maps.shape, grid)
    return rearrange(maps, "one e r s -> one (r s) e")


def use_dino_resampling(vit: Any) -> None:
    """Let timm's `vit` resample its position code as `resample_as_dino` does."""
    vit._pos_embed = MethodType(_with_position, vit)


def _with_position(self: Any, patches: Tensor) -> Tensor:
    """What stands for timm's `_pos_embed`: m r s e to prefix tokens and patches m n e with their code."""
    grid = Grid(*patches.shape[1:3])
    held = 0 if self.no_embed_class else self.num_prefix_tokens  # prefix tokens that have a code
    prefix, code = self.pos_embed.tensor_split([held], dim=1)
    tokens = rearrange(patches, "m r s e -> m (r s) e") + resample_as_dino(code, grid)
    given = [token for token in (self.cls_token, self.reg_token) if token is not None]
    if not given:
        return self.pos_drop(tokens)
    first = torch.cat(given, dim=1)
    first = (first + prefix if held else first).expand(len(tokens), -1, -1)
    return self.pos_drop(torch.cat([first, tokens], dim=1))
