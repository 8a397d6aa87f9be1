"""Pre-norm transformers without a causal mask: an encoder of sets, and a decoder from slots to places."""

from __future__ import annotations

from typing import Annotated

import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from vocl.errors import UserError
from vocl.interface import Grid
from vocl.nn.blocks import MultiHeadAttention
from vocl.nn.execution.compiled import region
from vocl.nn.positions import grid_code


class Block(nn.Module):
    """Self-attention, attention to a memory if `cross`, and a GELU feed-forward, each with a residual.

    LayerNorm before each; no dropout. Attention is PyTorch's fused one: its memory grows with the
    number of tokens, not with their square.
    """

    def __init__(self, dim: int, *, num_heads: int, ffn_dim: int, cross: bool) -> None:
        super().__init__()
        if dim % num_heads:
            raise UserError(f"num_heads={num_heads}: does not divide the width of the blocks, {dim}")
        self.norm_self = nn.LayerNorm(dim)
        self.self_attn = MultiHeadAttention(dim, num_heads=num_heads, logit_scale="divided")
        self.norm_cross = nn.LayerNorm(dim) if cross else None
        self.cross_attn = (
            MultiHeadAttention(dim, num_heads=num_heads, logit_scale="divided") if cross else None
        )
        self.norm_ffn = nn.LayerNorm(dim)
        self.linear1, self.linear2 = nn.Linear(dim, ffn_dim), nn.Linear(ffn_dim, dim)

    def forward(self, x: Tensor, memory: Tensor | None = None, visible: Tensor | None = None) -> Tensor:
        """`x` b n d (b may be 1: one for all memories), `memory` b k d, of which `visible` b k."""
        x = x + self.self_attn(self.norm_self(x))
        if self.norm_cross is not None and self.cross_attn is not None:
            x = x + self.cross_attn(self.norm_cross(x), memory, visible)
        return x + self.linear2(F.gelu(self.linear1(self.norm_ffn(x))))


class TransformerEncoder(nn.Module):
    """Every token attends to every other; LayerNorm at the end."""

    def __init__(
        self,
        dim: int,
        *,
        num_blocks: Annotated[int, Ge(1)],
        num_heads: Annotated[int, Ge(1)],
        ffn_dim: Annotated[int, Ge(1)],
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(dim, num_heads=num_heads, ffn_dim=ffn_dim, cross=False) for _ in range(num_blocks)
        )
        self.norm = nn.LayerNorm(dim)

    @region
    def forward(self, tokens: Tensor) -> Tensor:
        """`tokens` b n d to b n d."""
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)


class TransformerDecoder(nn.Module):
    """What is at each place of a grid, asked of a set of slots (as SPOT's decoder, unmasked).

    The queries are sine-cosine codes of the places, of width `dim`, and nothing else; the memory is
    LayerNorm(linear(slots)). So the first self-attention sees codes alone, the same for every
    video, and is computed once. A LayerNorm and a linear layer end in the target's channels.
    """

    def __init__(
        self,
        slot_dim: int,
        target_dim: int,
        *,
        dim: Annotated[int, Ge(4)],
        num_blocks: Annotated[int, Ge(1)],
        num_heads: Annotated[int, Ge(1)],
        ffn_dim: Annotated[int, Ge(1)],
    ) -> None:
        super().__init__()
        if dim % 4:
            raise UserError(
                f"decoder.dim={dim}: codes are sines and cosines of two axes; choose a multiple of 4"
            )
        self.dim = dim
        self.project = nn.Linear(slot_dim, dim)
        self.norm_memory = nn.LayerNorm(dim)
        self.blocks = nn.ModuleList(
            Block(dim, num_heads=num_heads, ffn_dim=ffn_dim, cross=True) for _ in range(num_blocks)
        )
        self.norm = nn.LayerNorm(dim)
        self.to_target = nn.Linear(dim, target_dim)

    def forward(self, slots: Tensor, grid: Grid, active: Tensor | None = None) -> Tensor:
        """`slots` b k d, of which `active` b k are in use (None: all), to b n e on `grid`."""
        memory = self.norm_memory(self.project(slots))
        x = grid_code(grid, self.dim, slots.device).unsqueeze(0)
        for block in self.blocks:
            x = block(x, memory, active)
        return self.to_target(self.norm(x))
