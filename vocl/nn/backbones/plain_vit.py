"""A small vision transformer as timm builds one, for runs that need none of its weights: its import takes
longer than their first step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

EPS = 1e-6  # of the LayerNorms


class PlainViT(nn.Module):
    """Blocks over patches with a class token and a learned code of positions (Dosovitskiy et al., ICLR 2021).

    Equal to timm's `VisionTransformer` of the same settings with `dynamic_img_size`, bit for bit, in the
    names of its weights, in their initial values, and in what `forward_intermediates` gives. Its other
    attributes are those that `ViT` and what it is made of read of timm's.
    """

    num_prefix_tokens = 1
    no_embed_class = False
    reg_token = None

    def __init__(
        self, native_px: int, patch_px: int, dim: int, depth: int, num_heads: int, layer_scale: float | None
    ) -> None:
        super().__init__()
        self.embed_dim = dim
        self.patch_embed = PatchEmbed(patch_px, dim)
        self.side = native_px // patch_px
        self.cls_token = nn.Parameter(torch.empty(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + self.side**2, dim))
        self.pos_drop, self.patch_drop = nn.Identity(), nn.Identity()
        self.blocks = nn.Sequential(*(Block(dim, num_heads, layer_scale) for _ in range(depth)))
        self.norm: nn.Module = nn.LayerNorm(dim, eps=EPS)
        _draw(self.pos_embed)
        nn.init.normal_(self.cls_token, std=1e-6)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                _draw(module.weight)
                nn.init.zeros_(module.bias)

    def forward_intermediates(
        self, frames: Tensor, indices: Sequence[int], norm: bool, **shape: Any
    ) -> list[Tensor]:
        """Patch tokens m n e after the blocks `indices`, in their order; `norm`: after the LayerNorm too.

        `shape`: what timm asks besides, for what this gives anyhow.
        """
        tokens, out = self.patch_drop(self._pos_embed(self.patch_embed(frames))), []
        for i, block in enumerate(self.blocks):
            tokens = block(tokens)
            if i in indices:
                out.append((self.norm(tokens) if norm else tokens)[:, self.num_prefix_tokens :])
        return out

    def _pos_embed(self, patches: Tensor) -> Tensor:
        """Patches m r s e to the class token and patches m n e, with their code."""
        first = self.cls_token.expand(len(patches), -1, -1)
        code = self._code(patches.shape[1], patches.shape[2])
        return self.pos_drop(torch.cat([first, rearrange(patches, "m r s e -> m (r s) e")], dim=1) + code)

    def _code(self, rows: int, columns: int) -> Tensor:
        if rows == columns == self.side:
            return self.pos_embed
        first, code = self.pos_embed.tensor_split([1], dim=1)
        maps = rearrange(code, "one (r s) e -> one e r s", r=self.side)
        maps = F.interpolate(maps, size=(rows, columns), mode="bicubic", antialias=True)
        return torch.cat([first, rearrange(maps, "one e r s -> one (r s) e")], dim=1)


@torch.no_grad()
def _draw(weights: Tensor) -> None:
    """Fill with normal noise of deviation 0.02, by the inverse of its distribution function as timm does:
    torch's own rule for it depends on torch's version."""
    weights.uniform_(-1, 1).erfinv_().mul_(0.02 * math.sqrt(2)).clamp_(-2, 2)


class PatchEmbed(nn.Module):
    """A linear map of each patch: frames m c h w to m r s e."""

    def __init__(self, patch_px: int, dim: int) -> None:
        super().__init__()
        self.patch_size = (patch_px, patch_px)
        self.proj = nn.Conv2d(3, dim, patch_px, stride=patch_px)

    def forward(self, frames: Tensor) -> Tensor:
        return rearrange(self.proj(frames), "m e r s -> m r s e")


class Block(nn.Module):
    """Attention and a perceptron of 4 times the width, each after a LayerNorm and beside a residual path."""

    def __init__(self, dim: int, num_heads: int, layer_scale: float | None) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=EPS)
        self.attn = Attention(dim, num_heads)
        self.ls1 = LayerScale(dim, layer_scale) if layer_scale else nn.Identity()
        self.drop_path1 = nn.Identity()
        self.norm2 = nn.LayerNorm(dim, eps=EPS)
        self.mlp = Mlp(dim)
        self.ls2 = LayerScale(dim, layer_scale) if layer_scale else nn.Identity()
        self.drop_path2 = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path1(self.ls1(self.attn(self.norm1(x))))
        return x + self.drop_path2(self.ls2(self.mlp(self.norm2(x))))


class Attention(nn.Module):
    """Self-attention of several heads, m n e."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        parts = rearrange(self.qkv(x), "m n (three i d) -> three m i n d", three=3, i=self.num_heads)
        mixed = F.scaled_dot_product_attention(*parts.unbind(0))
        return self.proj(rearrange(mixed, "m i n d -> m n (i d)"))


class Mlp(nn.Module):
    """Two layers with GELU between them."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class LayerScale(nn.Module):
    """A gain for each feature."""

    def __init__(self, dim: int, initial: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(initial * torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma
