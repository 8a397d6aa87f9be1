"""The slots as a codebook: masks follow what patches look like, wherever they lie."""

import torch
from torch import Tensor

from vocl.interface import Clip, Context, Grid
from vocl.nn.decoders.codebook import CodebookDecoder, LevelCodebookDecoder, PlacedCodebookDecoder

GRID = Grid(3, 4)


def decoder(slot_dim: int = 8, target_dim: int = 5) -> CodebookDecoder:
    torch.manual_seed(0)
    return CodebookDecoder(slot_dim, target_dim, GRID, temperature=1.0)


def context(inputs: Tensor) -> Context:
    b, t = inputs.shape[:2]
    clip = Clip(
        torch.zeros(b, t, 3, 6, 8), torch.ones(b, t, dtype=torch.bool), torch.zeros(b).long(), ("",) * b
    )
    return Context(clip=clip, inputs=inputs, grid=GRID)


def test_a_patch_is_the_mixture_of_slots_that_its_mask_says() -> None:
    slots, inputs = torch.randn(2, 3, 4, 8), torch.randn(2, 3, 12, 8)
    part = decoder()
    decoded = part(slots, context=context(inputs))
    torch.testing.assert_close(decoded.masks.sum(2), torch.ones(2, 3, 12))
    painted = part.paint(slots)
    torch.testing.assert_close(
        decoded.recon[1, 2, 7], sum(decoded.masks[1, 2, k, 7] * painted[1, 2, k] for k in range(4))
    )
    assert part(slots, reconstruct=False, context=context(inputs)).recon is None


def test_patches_that_change_places_take_their_masks_along() -> None:
    slots, inputs, order = torch.randn(1, 2, 4, 8), torch.randn(1, 2, 12, 8), torch.randperm(12)
    part = decoder()
    masks = part(slots, context=context(inputs)).masks
    moved = part(slots, context=context(inputs[:, :, order])).masks
    torch.testing.assert_close(moved, masks[..., order])


def test_masks_learn_kinds_of_patches() -> None:
    torch.manual_seed(1)
    centres, kind = torch.randn(3, 8), torch.randint(3, (1, 1, 12))
    inputs = centres[kind] + 0.05 * torch.randn(1, 1, 12, 8)
    part = decoder(target_dim=8)
    slots = torch.nn.Parameter(torch.randn(1, 1, 3, 8))
    optimizer = torch.optim.Adam([slots, *part.parameters()], lr=0.02)
    for _ in range(300):
        optimizer.zero_grad()
        (part(slots, context=context(inputs)).recon - inputs).square().mean().backward()
        optimizer.step()
    winner = part(slots, context=context(inputs)).masks.argmax(2)
    same = kind.unsqueeze(-1) == kind.unsqueeze(-2)
    assert torch.equal(winner.unsqueeze(-1) == winner.unsqueeze(-2), same)


def test_a_low_temperature_decides() -> None:
    slots, inputs = torch.randn(1, 2, 4, 8), torch.randn(1, 2, 12, 8)
    part = decoder()
    soft = part(slots, context=context(inputs)).masks
    part.scale *= 100
    sharp = part(slots, context=context(inputs)).masks
    assert torch.equal(soft.argmax(2), sharp.argmax(2))
    assert sharp.amax(2).mean() > 0.9 > soft.amax(2).mean()


def test_slots_out_of_use_get_no_patch() -> None:
    slots, inputs = torch.randn(3, 1, 4, 8), torch.randn(3, 1, 12, 8)
    active = torch.tensor([True, False, True, False]).expand(3, 1, 4)
    part = PlacedCodebookDecoder(8, 5, GRID, temperature=0.25)
    decoded = part(slots, torch.zeros(3, 1, 4, 12, 2), active, context=context(inputs))
    assert not decoded.masks[:, :, [1, 3]].any()
    torch.testing.assert_close(decoded.masks.sum(2), torch.ones(3, 1, 12))
    two = part(slots[:, :, ::2], torch.zeros(3, 1, 2, 12, 2), active[:, :, ::2], context=context(inputs))
    torch.testing.assert_close(decoded.recon, two.recon)


def test_single_frames_are_rebuilt_as_frames_of_clips_are() -> None:
    slots, inputs = torch.randn(3, 4, 8), torch.randn(3, 12, 8)
    torch.manual_seed(0)
    single = LevelCodebookDecoder(8, 5, temperature=1.0)
    recon = single(slots, GRID, context=Context(context(inputs[None]).clip, inputs=inputs))
    torch.testing.assert_close(recon, decoder()(slots[None], context=context(inputs[None])).recon[0])
