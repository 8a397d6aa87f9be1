"""Small building blocks: the generic MLP, and transformer blocks over slots."""

from __future__ import annotations

import itertools
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge
from einops import rearrange
from torch import Tensor, nn

from vocl.errors import UserError

LogitScale = Literal["multiplied", "divided"]


def mlp(dims: list[int]) -> nn.Sequential:
    """Linear layers of widths `dims` with ReLU between them; PyTorch's weights, biases zero.

    The initialisation of every generic MLP in SlotContrast's release.
    """
    layers: list[nn.Module] = []
    for i, (fan_in, fan_out) in enumerate(itertools.pairwise(dims)):
        linear = nn.Linear(fan_in, fan_out)
        nn.init.zeros_(linear.bias)
        layers += [linear] if i == len(dims) - 2 else [linear, nn.ReLU()]
    return nn.Sequential(*layers)


class MultiHeadAttention(nn.Module):
    """Multi-head self-attention with one fused projection.

    `logit_scale`: "divided" is the usual q.k / sqrt(head_dim); "multiplied" is q.k * sqrt(head_dim),
    what VideoSAUR's and SlotContrast's released code does (it divides the query by head_dim**-0.5).
    It is kept because the released weights were trained with it.
    """

    def __init__(self, dim: int, *, num_heads: int, logit_scale: LogitScale) -> None:
        super().__init__()
        if dim % num_heads:
            raise UserError(f"num_heads={num_heads}: does not divide the slots' width, model.slot_dim={dim}")
        self.num_heads = num_heads
        head_dim = dim // num_heads
        self.scale = head_dim**0.5 if logit_scale == "multiplied" else head_dim**-0.5
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out_proj = nn.Linear(dim, dim)
        bound = (6 / (dim + dim)) ** 0.5  # Xavier for each of the three projections on its own
        nn.init.uniform_(self.qkv.weight, -bound, bound)
        nn.init.zeros_(self.qkv.bias)
        nn.init.xavier_uniform_(self.out_proj.weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor) -> Tensor:
        """`x` b k d."""
        q, k, v = rearrange(self.qkv(x), "b k (three h d) -> three b h k d", three=3, h=self.num_heads)
        mixed = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        return self.out_proj(rearrange(mixed, "b h k d -> b k (h d)"))


class TransformerBlock(nn.Module):
    """Self-attention and a ReLU feed-forward, each with a residual; LayerNorm before or after."""

    def __init__(
        self, dim: int, *, num_heads: int, ffn_dim: int, norm: Literal["pre", "post"], logit_scale: LogitScale
    ) -> None:
        super().__init__()
        self.pre = norm == "pre"
        self.self_attn = MultiHeadAttention(dim, num_heads=num_heads, logit_scale=logit_scale)
        self.linear1 = nn.Linear(dim, ffn_dim)
        self.linear2 = nn.Linear(ffn_dim, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """`x` b k d."""
        if self.pre:
            x = x + self.self_attn(self.norm1(x))
            return x + self._feed_forward(self.norm2(x))
        x = self.norm1(x + self.self_attn(x))
        return self.norm2(x + self._feed_forward(x))

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.linear2(F.relu(self.linear1(x)))


class TransformerPredictor(nn.Module):
    """Predicts the slots of the next frame from those of this one; no positional code over slots.

    SlotContrast uses one pre-norm block with 4 heads and "multiplied" logits (see
    `MultiHeadAttention`); SAVi one post-norm block with the usual scale. Runs in float32 under
    autocast: the multiplied logits reach 50-100, too coarse for bfloat16.
    """

    def __init__(
        self,
        slot_dim: int,
        *,
        num_blocks: Annotated[int, Ge(1)],
        num_heads: Annotated[int, Ge(1)],
        ffn_dim: Annotated[int, Ge(1)],
        norm: Literal["pre", "post"],
        logit_scale: Literal["multiplied", "divided"],
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            TransformerBlock(
                slot_dim, num_heads=num_heads, ffn_dim=ffn_dim, norm=norm, logit_scale=logit_scale
            )
            for _ in range(num_blocks)
        )

    def forward(self, slots: Tensor) -> Tensor:
        """`slots` b k d of frame t; returns b k d, the first guess for frame t + 1."""
        with torch.autocast(slots.device.type, enabled=False):
            slots = slots.float()
            for block in self.blocks:
                slots = block(slots)
        return slots
