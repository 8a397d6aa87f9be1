"""Small building blocks: the generic MLP, and transformer blocks over slots."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge
from einops import rearrange
from torch import Tensor, nn

from vocl.errors import UserError
from vocl.nn.execution.compiled import region

LogitScale = Literal["multiplied", "divided"]
Drop = Callable[[Tensor, str], Tensor]  # dropout of a tensor at a named place


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


def he_mlp(dims: list[int]) -> nn.Sequential:
    """As `mlp`, with weights that keep the variance through ReLU (He's uniform rule): for deep ones."""
    layers = mlp(dims)
    for linear in linears(layers):
        nn.init.kaiming_uniform_(linear.weight, nonlinearity="relu")
    return layers


def linears(layers: nn.Sequential) -> list[nn.Linear]:
    """The linear layers of an MLP, in order."""
    return [layer for layer in layers if isinstance(layer, nn.Linear)]


class MultiHeadAttention(nn.Module):
    """Multi-head attention with one fused projection.

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

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        visible: Tensor | None = None,
        drop: Drop | None = None,
    ) -> Tensor:
        """`x` b k d attends to itself, or to `memory` b j d (then b of `x` may be 1: one for all).

        `visible` b j bool: what may be attended to; `drop`: dropout of the attention.
        """
        if memory is None:
            q, k, v = rearrange(self.qkv(x), "b k (three h d) -> three b h k d", three=3, h=self.num_heads)
        else:
            q, k, v = self._project(x, memory)
        visible = None if visible is None else rearrange(visible, "b j -> b 1 1 j")
        if drop is None:
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=visible, scale=self.scale)
        else:
            logits = q @ k.transpose(-1, -2) * self.scale
            logits = logits if visible is None else logits.masked_fill(~visible, -torch.inf)
            mixed = drop(logits.softmax(-1), "attention") @ v
        return self.out_proj(rearrange(mixed, "b h k d -> b k (h d)"))

    def _project(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries b h k d of `x`, keys and values b h j d of `memory`."""
        (query, rest), (query_bias, rest_bias) = (
            p.tensor_split([x.shape[-1]]) for p in (self.qkv.weight, self.qkv.bias)
        )
        q = rearrange(F.linear(x, query, query_bias), "b k (h d) -> b h k d", h=self.num_heads)
        both = F.linear(memory, rest, rest_bias)
        k, v = rearrange(both, "b j (two h d) -> two b h j d", two=2, h=self.num_heads)
        return q.expand(len(memory), -1, -1, -1), k, v


class TransformerBlock(nn.Module):
    """Attention and a ReLU feed-forward, each with a residual; LayerNorm before or after.

    Self-attention, unless `forward` gets a memory to attend to; the memory is not normalised here.
    """

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

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        visible: Tensor | None = None,
        drop: Drop | None = None,
    ) -> Tensor:
        """As in `MultiHeadAttention`; `drop`: dropout, where PyTorch's own block places it."""
        dropped = drop or _identity
        if self.pre:
            x = x + dropped(self.self_attn(self.norm1(x), memory, visible, drop), "attended")
            return x + self._feed_forward(self.norm2(x), dropped)
        x = self.norm1(x + dropped(self.self_attn(x, memory, visible, drop), "attended"))
        return self.norm2(x + self._feed_forward(x, dropped))

    def _feed_forward(self, x: Tensor, drop: Drop) -> Tensor:
        return drop(self.linear2(drop(F.relu(self.linear1(x)), "hidden")), "fed")


def _identity(x: Tensor, place: str) -> Tensor:
    return x


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

    @region
    def forward(self, slots: Tensor) -> Tensor:
        """`slots` b k d of frame t; returns b k d, the first guess for frame t + 1."""
        with torch.autocast(slots.device.type, enabled=False):
            slots = slots.float()
            for block in self.blocks:
                slots = block(slots)
        return slots
