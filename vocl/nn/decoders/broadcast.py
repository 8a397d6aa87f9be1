"""From slots to a reconstruction and to the masks that say which slot made which patch."""

from __future__ import annotations

from typing import Annotated, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from annotated_types import Ge
from einops import rearrange
from torch import Tensor, nn

from vocl.errors import UserError
from vocl.interface import Grid
from vocl.nn.adapters import coordinates
from vocl.nn.blocks import mlp
from vocl.nn.decoders.mixing import mixed_states


class Decoded(NamedTuple):
    """`recon` b t n e (or b t c h w), None if not asked for; `masks` b t k n on `grid`."""

    recon: Tensor | None
    masks: Tensor
    grid: Grid


class PlacedDecoder(Protocol):
    """From slots that have a place, and may be out of use, to patches on its `grid`."""

    grid: Grid

    def __call__(self, slots: Tensor, place: Tensor, active: Tensor, reconstruct: bool) -> Decoded: ...


class MLPDecoder(nn.Module):
    """Each slot is broadcast to all patches, decoded by an MLP, and mixed by its masks.

    DINOSAUR and SlotContrast: x = slot + position, `num_layers` hidden layers with ReLU, a linear
    layer to e + 1 outputs, the last of which is the mask logit; masks = softmax over the slots.

    Computed by exact algebra with fewer products than the formula: the first layer is linear in
    slot + position, so both parts pass it apart (n + k rows instead of n * k); the last layer is
    linear and the masks sum to 1, so hidden states are mixed before it (n rows instead of n * k);
    the bias of the mask logit is the same for all slots, so the masks do not depend on it. What
    lies between, the only part with n * k rows, runs a tile at a time (`vocl.nn.decoders.mixing`).
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
        self.target_dim = target_dim
        patches = grid.rows * grid.columns
        self.pos_emb = nn.Parameter(torch.randn(patches, slot_dim) * slot_dim**-0.5)
        self.mlp = mlp([slot_dim, *[hidden_dim] * num_layers, target_dim + 1])

    def forward(self, slots: Tensor, reconstruct: bool = True) -> Decoded:
        """`slots` b t k d."""
        first, *middle, last = (layer for layer in self.mlp if isinstance(layer, nn.Linear))
        position = F.linear(self.pos_emb, first.weight, first.bias)
        per_slot = rearrange(F.linear(slots, first.weight), "b t k h -> (b t) k h")
        masks, mixed = mixed_states(per_slot, position, middle, last.weight[-1])
        masks = rearrange(masks, "(b t) k n -> b t k n", b=len(slots))
        recon = None
        if reconstruct:
            mixed = rearrange(mixed, "(b t) n h -> b t n h", b=len(slots))
            recon = F.linear(mixed, last.weight[:-1], last.bias[:-1])
        return Decoded(recon, masks, self.grid)


class BroadcastDecoder(nn.Module):
    """Spatial broadcast decoder (Watters et al., 2019) as SAVi uses it: slots to pixels.

    Each slot is broadcast to a small grid, a projected coordinate code is added, and `num_layers`
    layers of 5x5 convolutions, the first `num_upsample` transposed with stride 2, give the
    target's channels and a mask logit; masks = softmax over the slots.
    """

    def __init__(
        self,
        slot_dim: int,
        target_dim: int,
        grid: Grid,
        *,
        channels: Annotated[int, Ge(1)],
        num_layers: Annotated[int, Ge(1)],
        num_upsample: Annotated[int, Ge(0)],
    ) -> None:
        super().__init__()
        factor = 2**num_upsample
        if grid.rows % factor or grid.columns % factor:
            raise UserError(
                f"model.decoder.num_upsample={num_upsample}: frames of {grid.rows}x{grid.columns} pixels "
                f"(dataset.size_px) are not a multiple of 2**num_upsample = {factor}"
            )
        if num_upsample > num_layers:
            raise UserError(f"model.decoder.num_upsample={num_upsample}: at most num_layers={num_layers}")
        self.grid = grid
        self.start = Grid(grid.rows // factor, grid.columns // factor)
        self.register_buffer("code", coordinates(self.start), persistent=False)
        self.project = nn.Linear(4, slot_dim)
        layers: list[nn.Module] = []
        for i in range(num_layers):
            width = slot_dim if i == 0 else channels
            layers += [_convolution(width, channels, upsample=i < num_upsample), nn.ReLU()]
        self.convolutions = nn.Sequential(*layers)
        self.head = nn.Conv2d(channels, target_dim + 1, kernel_size=1)

    def forward(self, slots: Tensor, reconstruct: bool = True) -> Decoded:
        """`slots` b t k d; recon b t c h w, masks b t k (h w)."""
        b, t, k, _ = slots.shape
        x = rearrange(slots, "b t k d -> (b t k) 1 d") + self.project(self.code)
        x = rearrange(x, "m (r s) d -> m d r s", r=self.start.rows)
        x = rearrange(self.head(self.convolutions(x)), "(b t k) c h w -> b t k c h w", b=b, t=t, k=k)
        masks = torch.softmax(x[:, :, :, -1].float(), dim=2)
        recon = torch.einsum("btkhw,btkchw->btchw", masks, x[:, :, :, :-1]) if reconstruct else None
        return Decoded(recon, rearrange(masks, "b t k h w -> b t k (h w)"), self.grid)


def _convolution(fan_in: int, fan_out: int, upsample: bool) -> nn.Module:
    if upsample:
        return nn.ConvTranspose2d(fan_in, fan_out, kernel_size=5, stride=2, padding=2, output_padding=1)
    return nn.Conv2d(fan_in, fan_out, kernel_size=5, padding=2)
