"""One feature per slot: what its masks say is what its reconstruction shows."""

from __future__ import annotations

import torch

from vocl.interface import Grid
from vocl.nn.decoders.flat import FlatDecoder

GRID = Grid(3, 4)


def test_a_patch_shows_its_slots_features_by_their_masks() -> None:
    part = FlatDecoder(6, 5, GRID, hidden_dim=8, num_layers=2)
    slots = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    recon, masks, grid = part(slots)
    assert (masks.shape, grid) == ((2, 3, 4, 12), GRID)
    torch.testing.assert_close(masks.sum(2), torch.ones(2, 3, 12))
    painted = part.paint(slots)
    expected = sum(masks[:, :, i, :, None] * painted[:, :, i, None] for i in range(4))
    torch.testing.assert_close(recon, expected)


def test_one_slot_paints_all_patches_alike() -> None:
    part = FlatDecoder(6, 5, GRID, hidden_dim=8, num_layers=1)
    recon = part(torch.randn(1, 1, 1, 6)).recon
    torch.testing.assert_close(recon, recon[..., :1, :].expand_as(recon))


def test_without_reconstruction_the_masks_are_the_same() -> None:
    part = FlatDecoder(6, 5, GRID, hidden_dim=8, num_layers=2)
    slots = torch.randn(1, 2, 3, 6)
    full, short = part(slots), part(slots, reconstruct=False)
    assert short.recon is None and torch.equal(full.masks, short.masks)
