"""The slots as a codebook of their frame: each patch is a mixture of those that it matches."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from annotated_types import Gt
from torch import Tensor, nn
from torch.nn import functional

from vocl.interface import Context, Grid
from vocl.nn.decoders.broadcast import Decoded
from vocl.ops.narrow import given


class Codebook(nn.Module):
    """The layers of the decoders here, which differ in what they are called with: see `CodebookDecoder`."""

    needs: ClassVar[frozenset[str]] = frozenset({"inputs"})

    def __init__(
        self, slot_dim: int, target_dim: int, grid: Grid, *, temperature: Annotated[float, Gt(0)]
    ) -> None:
        super().__init__()
        self.grid = grid
        self.scale = slot_dim**-0.5 / temperature
        self.norm = nn.LayerNorm(slot_dim)
        self.to_q = nn.Linear(slot_dim, slot_dim, bias=False)
        self.to_k = nn.Linear(slot_dim, slot_dim, bias=False)
        self.paint = nn.Linear(slot_dim, target_dim)

    def decode(self, slots: Tensor, inputs: Tensor, active: Tensor | None, reconstruct: bool) -> Decoded:
        """`slots` b t k d, of which `active` b t k are in use (None: all), for `inputs` b t n d."""
        logits = torch.einsum("btkd,btnd->btkn", self.to_q(self.norm(slots)), self.to_k(inputs))
        logits = logits.float() * self.scale
        if active is not None:
            logits = logits.masked_fill(~active.unsqueeze(-1), -torch.inf)
        masks = torch.softmax(logits, dim=2)
        recon = None
        if reconstruct:
            recon = torch.einsum("btkn,btke->btne", masks.to(slots.dtype), self.paint(slots))
        return Decoded(recon, masks, self.grid)


class CodebookDecoder(Codebook):
    """Each slot paints one feature, and a patch takes it from the slots that its own input matches.

    Not from a paper; an autoencoder of soft k-means, with the slots as centres. With f (n d) the
    inputs of the corrector and s (k d) its slots, per frame:

        masks = softmax over k of  (W_q LayerNorm(s)) . (W_k f) / (temperature sqrt(d))
        recon = masks^T W_r s

    For small sets of videos: a decoder that knows positions learns the frames by heart, whatever its
    masks are. This one knows none, so a good reconstruction needs slots that stand for what the
    patches have in common. Unlike a decoder of a paper it reads the patches; what passes from them to
    the reconstruction is which slot they match, and nothing else. A low temperature keeps a patch
    from being rebuilt as a blend of slots, none of which is like it.
    """

    def forward(self, slots: Tensor, reconstruct: bool = True, *, context: Context) -> Decoded:
        """`slots` b t k d; recon b t n e, masks b t k n."""
        return self.decode(slots, given(context.inputs), None, reconstruct)


class PlacedCodebookDecoder(Codebook):
    """`CodebookDecoder` for slots that have a place, which it does not read, and may be out of use (SOLV).

    It normalises the inputs, as the corrector of such slots does within itself.
    """

    def forward(
        self, slots: Tensor, place: Tensor, active: Tensor, reconstruct: bool = True, *, context: Context
    ) -> Decoded:
        """`slots` b t k d at `place` b t k n 2, of which `active` b t k are in use."""
        inputs = given(context.inputs)
        normed = functional.layer_norm(inputs, inputs.shape[-1:])
        return self.decode(slots, normed, active, reconstruct)


class LevelCodebookDecoder(Codebook):
    """`CodebookDecoder` for the levels of Interpreter: of single frames, or of a video's sets of slots."""

    def __init__(self, slot_dim: int, target_dim: int, **rest: float) -> None:
        super().__init__(slot_dim, target_dim, Grid(1, 1), **rest)

    def forward(self, slots: Tensor, grid: Grid, active: Tensor | None = None, *, context: Context) -> Tensor:
        """`slots` m k d, of which `active` m k are in use (None: all), to m n e; inputs are m n d."""
        active = None if active is None else active.unsqueeze(1)
        decoded = self.decode(slots.unsqueeze(1), given(context.inputs).unsqueeze(1), active, True)
        return given(decoded.recon).squeeze(1)
