"""Slots of frames to come: what they may depend on, and that motion is learnt."""

from __future__ import annotations

import pytest
import torch

from vocl.nn.rollout import TransformerRollout


def rollout(window: int = 4, residual: bool = False, slot_dim: int = 6, dim: int = 16) -> TransformerRollout:
    torch.manual_seed(0)
    made = TransformerRollout(
        slot_dim, window, dim=dim, num_blocks=2, num_heads=2, ffn_dim=2 * dim, residual=residual
    )
    if residual:  # it starts as zeros
        torch.nn.init.normal_(made.to_slots.weight, std=0.3)
    return made


@pytest.mark.parametrize("residual", [False, True])
def test_slots_in_another_order_are_foretold_in_that_order(residual: bool) -> None:
    made, slots, order = rollout(residual=residual), torch.randn(2, 4, 5, 6), torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(made(slots[:, :, order], 3), made(slots, 3)[:, :, order])


def test_frames_have_an_order() -> None:
    made, slots = rollout(), torch.randn(1, 4, 3, 6)
    swapped = slots[:, [1, 0, 2, 3]]
    assert (made(slots, 1) - made(swapped, 1)).abs().max() > 1e-3


@pytest.mark.parametrize("residual", [False, True])
def test_each_frame_is_told_from_the_window_before_it(residual: bool) -> None:
    made, slots = rollout(residual=residual), torch.randn(2, 4, 3, 6)
    told = made(slots, 3)
    assert told.shape == (2, 3, 3, 6)
    before = torch.cat([slots, told], dim=1)
    for step in range(3):
        torch.testing.assert_close(made(before[:, step : step + 4], 1)[:, 0], told[:, step])
    older = torch.cat([torch.randn(2, 2, 3, 6), slots], dim=1)
    assert torch.equal(made(older, 3), told)


def test_a_residual_rollout_begins_as_slots_that_stay() -> None:
    slots = torch.randn(2, 4, 3, 6)
    made = TransformerRollout(6, 4, dim=8, num_blocks=1, num_heads=2, ffn_dim=8, residual=True)
    assert torch.equal(made(slots, 2), slots[:, -1:].expand(-1, 2, -1, -1))


def moving(number: int, seed: int) -> torch.Tensor:
    """Slots b t k d of 5 frames: the first half of d are places, each with a speed of its own."""
    draw = torch.Generator().manual_seed(seed)
    start, speed = (torch.randn(number, 1, 2, 2, generator=draw) for _ in range(2))
    place = start + 0.5 * speed * torch.arange(5).view(1, -1, 1, 1)
    looks = torch.randn(number, 1, 2, 2, generator=draw).expand(-1, 5, -1, -1)
    return torch.cat([place, looks], dim=-1)


def test_constant_speed_is_learnt_ten_times_better_than_standing_still() -> None:
    torch.manual_seed(0)
    made = TransformerRollout(4, 2, dim=32, num_blocks=2, num_heads=2, ffn_dim=64, residual=True)
    optimizer = torch.optim.Adam(made.parameters(), lr=5e-3)
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 400)
    for step in range(400):
        slots = moving(64, step)
        optimizer.zero_grad()
        (made(slots[:, :2], 3) - slots[:, 2:]).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(made.parameters(), 1.0)
        optimizer.step()
        rates.step()
    held_out = moving(256, 10_000)
    with torch.no_grad():
        error = (made(held_out[:, :2], 3) - held_out[:, 2:]).square().mean()
    still = (held_out[:, 1:2] - held_out[:, 2:]).square().mean()
    assert error < still / 10
