"""Errors of what was foretold, over the frames that it was foretold for."""

from __future__ import annotations

import torch

from vocl.interface import Clip, Grid
from vocl.losses.rollout import RolledFeatureMSE, RolledSlotMSE
from vocl.models.dynamics import RolledOutput


def clip(valid: list[list[bool]]) -> Clip:
    return Clip(None, torch.tensor(valid), torch.arange(len(valid)), ("a",) * len(valid))


def output(slots: torch.Tensor, rolled: torch.Tensor) -> RolledOutput:
    """With features of which the slots' are a copy."""
    return RolledOutput(
        slots=slots, attn=slots, grid=Grid(1, 2), target=slots, rolled=rolled, rolled_recon=rolled
    )


def test_each_frame_is_compared_with_its_own() -> None:
    slots = torch.arange(2 * 4 * 2 * 3).view(2, 4, 2, 3).float()
    whole = clip([[True] * 4] * 2)
    for term in (RolledSlotMSE(), RolledFeatureMSE()):
        assert term(output(slots, slots[:, 2:]), whole) == 0
        assert term(output(slots, slots[:, 2:] + 0.5), whole) == 0.25
        assert term(output(slots, slots[:, 1:3]), whole) == 36  # a frame late


def test_frames_that_are_padding_do_not_count() -> None:
    slots, rolled = torch.zeros(1, 4, 2, 3), torch.tensor([1.0, 5.0]).view(1, 2, 1, 1).expand(-1, -1, 2, 3)
    assert RolledSlotMSE()(output(slots, rolled), clip([[True, True, True, False]])) == 1


def test_no_gradient_reaches_what_is_to_be_foretold() -> None:
    slots = torch.zeros(1, 4, 2, 3, requires_grad=True)
    rolled = torch.ones(1, 2, 2, 3, requires_grad=True)
    RolledSlotMSE()(output(slots, rolled), clip([[True] * 4])).backward()
    assert slots.grad is None and rolled.grad is not None
