"""One feature per slot, and a mask that says where it is."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn

from vocl.interface import Grid
from vocl.nn.blocks import mlp
from vocl.nn.decoders.broadcast import Decoded


class FlatDecoder(nn.Module):
    """Each slot paints one feature, the same at all its patches; an MLP of slot + position gives its mask.

    Not from a paper. `MLPDecoder` lets a slot's feature vary with the position, so on a few videos it
    can learn them by heart whatever the masks are. Here the masks are all that tells two patches apart:
    a good reconstruction needs them to follow the borders of what looks alike. Suits features that are
    nearly constant on a thing, such as those of `vocl.nn.backbones.filters`.

    masks = softmax over the slots of MLP(slot + position), recon = sum over the slots of masks * W slot.
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
        self.pos_emb = nn.Parameter(torch.randn(grid.rows * grid.columns, slot_dim) * slot_dim**-0.5)
        self.mlp = mlp([slot_dim, *[hidden_dim] * num_layers, 1])
        self.paint = nn.Linear(slot_dim, target_dim)

    def forward(self, slots: Tensor, reconstruct: bool = True) -> Decoded:
        """`slots` b t k d; recon b t n e, masks b t k n."""
        logits = self.mlp(slots.unsqueeze(-2) + self.pos_emb).squeeze(-1)
        masks = torch.softmax(logits.float(), dim=2)
        recon = None
        if reconstruct:
            recon = torch.einsum("btkn,btke->btne", masks.to(slots.dtype), self.paint(slots))
        return Decoded(recon, masks, self.grid)
