"""A fixed descriptor of patches, without weights: which colour, how bright, and where."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge
from einops import rearrange
from torch import Tensor

from vocl.errors import UserError
from vocl.interface import Backbone, Features
from vocl.nn.adapters import coordinates
from vocl.ops.narrow import pair
from vocl.ops.normalisation import to_rgb

GREY_CHROMA = 0.08  # chroma at which a hue begins to mean something
SHARPNESS = 4.0  # of the hue channels: half width about 34 degrees


class Filters(Backbone):
    """Per patch: `num_hues` hue channels, greyness, brightness, and its position (y, x).

    The chroma of a patch is the pair of colour opponents (r - g, (r + g) / 2 - b) of the mean colour
    of its inner half: what a neighbour covers at its rim should not mix two things into a third.
    Its direction is the hue, coded softly over evenly spaced directions; its length decides
    between hue and grey. So any two colours are about equally far apart, whatever their brightness,
    as features of a pretrained network are for two kinds of things. These are multiplied by `scale`,
    brightness by `brightness_scale` (how much a shade matters beside a colour), the chroma itself by
    `chroma_scale` (0 leaves it out; for the muted colours of real video, whose hues are noise), the
    position by `position_scale` (0 leaves it out: slots then cannot say where they are).

    A patch is described by itself alone, so token drop is a choice among the descriptions.
    """

    drops_tokens = True
    directions: Tensor
    position: Tensor

    def __init__(
        self,
        frame_px: tuple[int, int],
        weights_root: Path | None,
        *,
        patch_px: Annotated[int, Ge(1)],
        num_hues: Annotated[int, Ge(2)],
        scale: Annotated[float, Ge(0)],
        chroma_scale: Annotated[float, Ge(0)],
        brightness_scale: Annotated[float, Ge(0)],
        position_scale: Annotated[float, Ge(0)],
        normalise: Literal["imagenet", "half", "kinetics"],
    ) -> None:
        super().__init__()
        if any(side % patch_px for side in frame_px):
            raise UserError(
                f"dataset.size_px={list(frame_px)}: not a multiple of backbone.patch_px={patch_px}"
            )
        self.dim, self.patch_px = num_hues + 4 + 2 * (chroma_scale > 0), patch_px
        self.chroma_scale = chroma_scale
        self.normalise, self.scale, self.brightness_scale = normalise, scale, brightness_scale
        position = position_scale * (2 * coordinates(self.grid(frame_px))[:, :2] - 1)
        angles = torch.arange(num_hues) * (2 * math.pi / num_hues)
        self.register_buffer("position", position, persistent=False)
        self.register_buffer("directions", torch.stack([angles.cos(), angles.sin()]), persistent=False)

    @torch.no_grad()
    def forward(self, video: Tensor, keep: Tensor | None = None) -> Features:
        """`video` b t c h w, `keep` b t m; tokens b t n e (with `keep`: b t m e)."""
        size = pair(video.shape[-2:])
        frames = rearrange(to_rgb(video, self.normalise), "b t c h w -> (b t) c h w")
        margin = self.patch_px // 4
        inner = frames[..., margin : size[0] - margin, margin : size[1] - margin]
        means = F.avg_pool2d(inner, self.patch_px - 2 * margin, stride=self.patch_px)
        patches = rearrange(means, "(b t) c r s -> c b t (r s)", b=len(video))
        red, green, blue = patches
        chroma = torch.stack([red - green, (red + green) / 2 - blue], dim=-1)
        brightness = ((red + green + blue) / 3).unsqueeze(-1)
        length = chroma.norm(dim=-1, keepdim=True)
        hue = torch.exp(SHARPNESS * (chroma / (length + GREY_CHROMA) @ self.directions - 1))
        grey = torch.exp(-length / 0.1)
        colour = torch.cat([hue, grey], dim=-1) * self.scale
        shade = (brightness - 0.5) * self.brightness_scale
        position = self.position.expand(*colour.shape[:3], 2)
        tone = [chroma * self.chroma_scale] if self.chroma_scale else []
        tokens = torch.cat([colour, shade, *tone, position], dim=-1)
        if keep is not None:
            tokens = tokens.gather(2, keep.unsqueeze(-1).expand(*keep.shape, self.dim))
        return Features(tokens, self.grid(size))
