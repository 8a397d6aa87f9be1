"""Features that also say where else in the clip each patch is found: correlation with another frame."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from vocl.errors import UserError
from vocl.interface import Grid
from vocl.ops.random import uniform


class Correspondence(nn.Module):
    """R = h_f(F) + h_c(C) with C = F F'^T, F' the features of a partner frame (SMTC, eq. 2 and 3).

    Raw products, without temperature or softmax. h_c is one linear layer on a patch's products with
    the cells of the partner, so it is tied to their layout, that of training: a partner with another
    grid is resized to it (bilinear). `partner`: the frame that is compared with in training,
    "previous" (as the release; cyclic, so the first one's is the last) or another one drawn "random"
    for each frame (as the paper). `project`: whether h_f is a linear layer (paper) or nothing
    (release). Runs in float32 under autocast.
    """

    def __init__(
        self,
        feature_dim: int,
        slot_dim: int,
        grid: Grid,
        *,
        partner: Literal["previous", "random"],
        project: bool,
    ) -> None:
        super().__init__()
        if not project and feature_dim != slot_dim:
            raise UserError(
                f"model.slot_dim={slot_dim}: the features are {feature_dim} wide; choose null, "
                "or model.correspondence.project=true"
            )
        self.grid, self.partner = grid, partner
        self.from_features = nn.Linear(feature_dim, slot_dim) if project else nn.Identity()
        self.from_products = nn.Linear(grid.rows * grid.columns, slot_dim)

    def partners(self, key: Tensor, tag: str, frames: int) -> Tensor:
        """Index of each frame's partner, b t, in clips of `frames` frames with keys `key` (b)."""
        here = torch.arange(frames, device=key.device)
        if self.partner == "previous" or frames == 1:
            return repeat((here - 1) % frames, "t -> b t", b=len(key))
        steps = 1 + (uniform(key, f"{tag}.partner", (frames,)) * (frames - 1)).long()
        return (here + steps) % frames

    def cells(self, features: Tensor, grid: Grid) -> Tensor:
        """`features` b t n e of a partner at the cells of the grid of training: b t m e."""
        if grid == self.grid:
            return features
        maps = rearrange(features, "b t (r s) e -> (b t) e r s", r=grid.rows)
        maps = F.interpolate(maps, size=tuple(self.grid), mode="bilinear", align_corners=False)
        return rearrange(maps, "(b t) e r s -> b t (r s) e", b=len(features))

    def forward(self, features: Tensor, cells: Tensor) -> Tensor:
        """Fused features b t n d from `features` b t n e and the `cells` b t m e of each one's partner."""
        with torch.autocast(features.device.type, enabled=False):
            features = features.float()
            products = features @ cells.float().transpose(-1, -2)
            return self.from_features(features) + self.from_products(products)
