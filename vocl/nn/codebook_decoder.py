"""The slots as a codebook of their frame: each patch is a mixture of those that it matches."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from vocl.interface import Context, Grid
from vocl.nn.decoders import Decoded


class CodebookDecoder(nn.Module):
    """Each slot paints one feature, and a patch takes it from the slots that its own input matches.

    Not from a paper; an autoencoder of soft k-means, with the slots as centres. With f (n d) the
    inputs of the corrector and s (k d) its slots, per frame:

        masks = softmax over k of  (W_q LayerNorm(s)) . (W_k f) / sqrt(d),    recon = masks^T W_r s

    For small sets of videos: a decoder that knows positions learns the frames by heart, whatever its
    masks are. This one knows none, so a good reconstruction needs slots that stand for what the
    patches have in common. Unlike a decoder of a paper it reads the patches; what passes from them to
    the reconstruction is which slot they match, and nothing else.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"inputs"})

    def __init__(self, slot_dim: int, target_dim: int, grid: Grid) -> None:
        super().__init__()
        self.grid = grid
        self.norm = nn.LayerNorm(slot_dim)
        self.to_q = nn.Linear(slot_dim, slot_dim, bias=False)
        self.to_k = nn.Linear(slot_dim, slot_dim, bias=False)
        self.paint = nn.Linear(slot_dim, target_dim)

    def forward(self, slots: Tensor, reconstruct: bool = True, *, context: Context) -> Decoded:
        """`slots` b t k d; recon b t n e, masks b t k n."""
        queries, keys = self.to_q(self.norm(slots)), self.to_k(context.inputs)
        logits = torch.einsum("btkd,btnd->btkn", queries, keys).float() * slots.shape[-1] ** -0.5
        masks = torch.softmax(logits, dim=2)
        recon = None
        if reconstruct:
            recon = torch.einsum("btkn,btke->btne", masks.to(slots.dtype), self.paint(slots))
        return Decoded(recon, masks, self.grid)
