"""A fixed descriptor of patches, without weights: colour statistics and position."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
from annotated_types import Ge
from einops import rearrange
from torch import Tensor

from vocl.data.transforms import to_rgb
from vocl.errors import UserError
from vocl.interface import Backbone, Features, Grid
from vocl.nn.adapters import coordinates


class Filters(Backbone):
    """Per patch: median chroma (2), saturation and brightness; then its position (2).

    Chroma is the pair of colour opponents (r - g, (r + g) / 2 - b); medians ignore the few pixels
    of a neighbour that reach into a patch. Values are shifted and scaled by constants to about unit
    range, the position by `position_scale` (0 leaves it out: slots then cannot say where they are).
    """

    def __init__(
        self,
        frame_px: tuple[int, int],
        weights_root: Path | None,
        *,
        patch_px: Annotated[int, Ge(1)],
        position_scale: Annotated[float, Ge(0)],
        normalise: str,
    ) -> None:
        super().__init__()
        if any(side % patch_px for side in frame_px):
            raise UserError(f"dataset.size_px={list(frame_px)}: not a multiple of backbone.patch_px={patch_px}")
        self.dim, self.patch_px = 6, patch_px
        self.normalise = normalise
        grid = self.grid(frame_px)
        self.register_buffer("position", position_scale * 2 * (coordinates(grid)[:, :2] - 0.5), persistent=False)

    def forward(self, video: Tensor, keep: Tensor | None = None) -> Features:
        """`video` b t c h w; tokens b t n e."""
        assert keep is None, "token drop is not built into this backbone"
        grid = Grid(*self.grid(tuple(video.shape[-2:])))
        patches = rearrange(
            to_rgb(video, self.normalise), "b t c (r p) (s q) -> b t c (r s) (p q)", p=self.patch_px, q=self.patch_px
        )
        red, green, blue = patches.unbind(2)
        chroma = torch.stack([red - green, (red + green) / 2 - blue], dim=-1)
        saturation = chroma.norm(dim=-1, keepdim=True)
        brightness = patches.mean(2).unsqueeze(-1)
        raw = torch.cat([chroma / 0.3, (saturation - 0.3) / 0.2, (brightness - 0.5) / 0.2], dim=-1)
        tokens = torch.cat([raw.median(dim=-2).values, self.position.expand(*raw.shape[:3], 2)], dim=-1)
        return Features(tokens, grid)
