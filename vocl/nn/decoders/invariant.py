"""Slots with a position and a scale to patch features and masks."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge
from einops import rearrange
from torch import Tensor, nn

from vocl.interface import Grid
from vocl.nn.blocks import he_mlp
from vocl.nn.decoders.broadcast import Decoded
from vocl.nn.decoders.mixing import Place, mixed_states


class InvariantDecoder(nn.Module):
    """Each slot is broadcast to all patches and decoded where it is and as large as it is (SOLV, sec. 3).

    x = slot + position table + W_h r + b_h with the slot's relative coordinates r of the patch;
    `num_layers` hidden layers with ReLU, a linear layer to e + 1 outputs, the last of which is the
    mask logit; masks = softmax over the active slots of the frame.

    The first layer meets slot, table and r apart, and hidden states are mixed by the masks before
    the last layer, a tile at a time: exact algebra with fewer products, as in `MLPDecoder`. Weights
    begin by He's rule (the paper does not say how): with PyTorch's own, masks of so deep a decoder
    stay even for long.
    """

    def __init__(
        self,
        slot_dim: int,
        target_dim: int,
        grid: Grid,
        *,
        hidden_dim: Annotated[int, Ge(1)],
        num_layers: Annotated[int, Ge(1)],
    ) -> None:
        super().__init__()
        self.grid = grid
        self.pos_emb = nn.Parameter(torch.randn(grid.rows * grid.columns, slot_dim) * 0.02)
        self.relate = nn.Linear(2, slot_dim)
        self.mlp = he_mlp([slot_dim, *[hidden_dim] * num_layers, target_dim + 1])

    def forward(self, slots: Tensor, place: Tensor, active: Tensor, reconstruct: bool = True) -> Decoded:
        """`slots` b t k d at relative coordinates `place` b t k n 2; `active` b t k bool."""
        first, *middle, last = (layer for layer in self.mlp if isinstance(layer, nn.Linear))
        table = F.linear(self.pos_emb + self.relate.bias, first.weight, first.bias)
        per_slot = rearrange(F.linear(slots, first.weight), "b t k h -> (b t) k h")
        where = Place(rearrange(place, "b t k n p -> (b t) k n p"), first.weight @ self.relate.weight)
        shown = rearrange(active, "b t k -> (b t) k")
        # the bias of the mask's logit is the same for all slots
        masks, mixed = mixed_states(per_slot, table, middle, last.weight[-1], where, shown)
        masks = rearrange(masks, "(b t) k n -> b t k n", b=len(slots))
        recon = None
        if reconstruct:
            mixed = rearrange(mixed, "(b t) n h -> b t n h", b=len(slots))
            recon = F.linear(mixed, last.weight[:-1], last.bias[:-1])
        return Decoded(recon, masks, self.grid)
