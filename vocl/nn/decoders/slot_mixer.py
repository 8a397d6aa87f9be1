"""From slots to a reconstruction through one mixed slot per patch."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge
from einops import rearrange
from torch import Tensor, nn

from vocl.interface import Grid
from vocl.nn.blocks import TransformerBlock, mlp
from vocl.nn.decoders.broadcast import Decoded


class SlotMixerDecoder(nn.Module):
    """SlotMixer (Sajjadi et al., "Object Scene Representation Transformer", NeurIPS 2022), on a grid.

    As VideoSAUR (Zadaianchuk et al., NeurIPS 2023) uses it. From slots s (k d) and learned
    positions E (n d), per frame:

        x     = E;   x = x + MHA(LN(x), LN(s)),  x = x + FFN(LN(x))     `num_blocks` times
        masks = softmax over k of  (W_q LN(x)) . (W_k LN(s)) / sqrt(d)
        recon = W_out ReLU-MLP(masks @ s + E)

    Patches attend to slots and never to each other; what is mixed are the slots themselves. The MLP
    has `num_layers` layers, each with its ReLU, so an image costs n rows rather than n * k.
    `logit_scale` as in `vocl.nn.blocks.MultiHeadAttention`: the release multiplies. Everything
    before the MLP runs in float32 under autocast, for the same reason as the predictor.
    """

    def __init__(
        self,
        slot_dim: int,
        target_dim: int,
        grid: Grid,
        *,
        num_blocks: Annotated[int, Ge(1)],
        num_heads: Annotated[int, Ge(1)],
        ffn_dim: Annotated[int, Ge(1)],
        logit_scale: Literal["multiplied", "divided"],
        hidden_dim: Annotated[int, Ge(1)],
        num_layers: Annotated[int, Ge(1)],
    ) -> None:
        super().__init__()
        self.grid = grid
        self.pos_emb = nn.Parameter(torch.randn(grid.rows * grid.columns, slot_dim) * slot_dim**-0.5)
        self.norm_memory = nn.LayerNorm(slot_dim)
        self.allocator = nn.ModuleList(
            TransformerBlock(
                slot_dim, num_heads=num_heads, ffn_dim=ffn_dim, norm="pre", logit_scale=logit_scale
            )
            for _ in range(num_blocks)
        )
        self.norm_q, self.norm_k = nn.LayerNorm(slot_dim), nn.LayerNorm(slot_dim)
        self.to_q = nn.Linear(slot_dim, slot_dim, bias=False)
        self.to_k = nn.Linear(slot_dim, slot_dim, bias=False)
        self.renderer = mlp([slot_dim, *[hidden_dim] * num_layers])
        self.output = nn.Linear(hidden_dim, target_dim)
        for linear in (self.to_q, self.to_k, self.output):
            nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, slots: Tensor, reconstruct: bool = True) -> Decoded:
        """`slots` b t k d; recon b t n e, masks b t k n."""
        b = len(slots)
        with torch.autocast(slots.device.type, enabled=False):
            slots = rearrange(slots.float(), "b t k d -> (b t) k d")
            shares = self._allocate(slots)
            masks = rearrange(shares, "(b t) n k -> b t k n", b=b)
            mixed = shares @ slots + self.pos_emb if reconstruct else None
        if mixed is None:
            return Decoded(None, masks, self.grid)
        recon = self.output(F.relu(self.renderer(mixed)))
        return Decoded(rearrange(recon, "(b t) n e -> b t n e", b=b), masks, self.grid)

    def _allocate(self, slots: Tensor) -> Tensor:
        """Shares m n k of `slots` m k d in each patch, sum 1 over k."""
        memory = self.norm_memory(slots)
        x = self.pos_emb.unsqueeze(0)  # one row for all frames, until they differ
        for block in self.allocator:
            x = block(x, memory)
        queries, keys = self.to_q(self.norm_q(x)), self.to_k(self.norm_k(slots))
        return torch.softmax(queries @ keys.transpose(1, 2) * slots.shape[-1] ** -0.5, dim=-1)
