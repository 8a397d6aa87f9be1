"""A small convolutional backbone, trained from scratch (SAVi)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from annotated_types import Ge
from einops import rearrange
from torch import Tensor, nn

from vocl.errors import UserError
from vocl.interface import Backbone, Features
from vocl.ops.narrow import pair


class CNN(Backbone):
    """`num_layers` 5x5 convolutions with ReLU; the first has stride `patch_px`, the others 1.

    SAVi (Kipf et al., ICLR 2022) uses 4 layers of 32 channels, stride 1. Knows no position: pair
    it with `PositionAdapter`.
    """

    any_size: ClassVar[bool] = True

    def __init__(
        self,
        frame_px: tuple[int, int],
        weights_root: Path | None,
        *,
        channels: Annotated[int, Ge(1)],
        num_layers: Annotated[int, Ge(1)],
        patch_px: Annotated[int, Ge(1)],
    ) -> None:
        super().__init__()
        if any(side % patch_px for side in frame_px):
            raise UserError(
                f"dataset.size_px={list(frame_px)}: not a multiple of backbone.patch_px={patch_px}"
            )
        self.dim, self.patch_px = channels, patch_px
        layers: list[nn.Module] = []
        for i in range(num_layers):
            stride = patch_px if i == 0 else 1
            layers += [nn.Conv2d(3 if i == 0 else channels, channels, 5, stride=stride, padding=2), nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, video: Tensor, keep: Tensor | None = None) -> Features:
        """`video` b t c h w; tokens b t n e."""
        assert keep is None, "token drop is not built into this backbone"
        maps = self.layers(rearrange(video, "b t c h w -> (b t) c h w"))
        grid = self.grid(pair(video.shape[-2:]))
        return Features(rearrange(maps, "(b t) e h w -> b t (h w) e", b=len(video)), grid)
