"""Slots of one index over neighbouring frames, bound by a transformer over time (SOLV)."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Lt
from einops import rearrange
from torch import Tensor, nn

from vocl.nn.blocks import Drop, TransformerBlock
from vocl.ops.random import dropout


class TemporalBinder(nn.Module):
    """A post-norm transformer along time for each slot index; slots of other indices are not seen.

    Slots of a window of w frames, plus a learned code of their place in it, go through `num_blocks`
    blocks; the middle frame's come out. That an index means one thing over the window rests on the
    learned first slots. Frames that do not exist are not attended to. Runs in float32 under autocast.
    """

    def __init__(
        self,
        slot_dim: int,
        window: int,
        *,
        num_blocks: Annotated[int, Ge(1)],
        num_heads: Annotated[int, Ge(1)],
        ffn_dim: Annotated[int, Ge(1)],
        dropout: Annotated[float, Ge(0), Lt(1)],
    ) -> None:
        super().__init__()
        self.window, self.middle, self.dropout = window, window // 2, dropout
        self.time = nn.Parameter(torch.randn(window, 1, slot_dim) * 0.02)
        self.blocks = nn.ModuleList(
            TransformerBlock(
                slot_dim, num_heads=num_heads, ffn_dim=ffn_dim, norm="post", logit_scale="divided"
            )
            for _ in range(num_blocks)
        )

    def forward(self, slots: Tensor, valid: Tensor, frames: Tensor, key: Tensor | None = None) -> Tensor:
        """Bound slots b m k d of `frames` (m indices into t) from `slots` b t k d, `valid` b t.

        The window of a frame reaches `middle` frames back. `key` (b): draws the dropout.
        """
        with torch.autocast(slots.device.type, enabled=False):
            windows, visible = self._windows(slots.float(), valid, frames)
            b, m, _, k, _ = windows.shape
            x = rearrange(windows + self.time, "b m w k d -> (b m k) w d")
            visible = rearrange(visible.unsqueeze(3).expand(-1, -1, -1, k), "b m w k -> (b m k) w")
            for i, block in enumerate(self.blocks):
                x = block(x, visible=visible, drop=self._drop(key, i))
            return rearrange(x[:, self.middle], "(b m k) d -> b m k d", b=b, m=m)

    def _windows(self, slots: Tensor, valid: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Slots b m w k d around `frames`, and which of those frames exist, b m w."""
        offsets = torch.arange(self.window, device=slots.device) - self.middle
        index = frames.unsqueeze(1) + offsets
        inside = (index >= 0) & (index < slots.shape[1])
        index = index.clamp(0, slots.shape[1] - 1)
        visible = (valid[:, index] & inside) | (offsets == 0)
        return slots[:, index], visible

    def _drop(self, key: Tensor | None, i: int) -> Drop | None:
        if key is None or self.dropout == 0:
            return None
        return lambda x, place: dropout(x, key, f"time.{i}.{place}", self.dropout)
