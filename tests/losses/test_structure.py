"""Structural similarity: reference values of its formula, and what it may not depend on."""

from __future__ import annotations

import pytest
import torch

from vocl.interface import Clip, Grid, Output
from vocl.losses.structure import SSIM


def waves(shape):
    """Two deterministic signals b c t h w: a reconstruction and its target."""
    i = torch.arange(torch.Size(shape).numel(), dtype=torch.float32).reshape(shape)
    return 0.8 * torch.sin(0.1 * i + 0.3) + 0.05 * torch.cos(0.37 * i), torch.sin(0.1 * i)


def loss(recon, target, valid=None):
    """The term on b c t h w, given to it as features on a grid."""
    b, _, t, h, w = recon.shape
    recon, target = (x.permute(0, 2, 3, 4, 1).flatten(2, 3) for x in (recon, target))
    valid = torch.ones(b, t, dtype=torch.bool) if valid is None else valid
    clip = Clip(torch.zeros(b, t, 3, 1, 1), valid, torch.arange(b), ("",) * b)
    return SSIM()(Output(slots=recon, attn=recon, grid=Grid(h, w), recon=recon, target=target), clip)


@pytest.mark.parametrize(
    ("shape", "value", "norm"),
    [
        ((2, 3, 4, 5, 6), 0.082996, 3.738660e-02),
        ((1, 4, 4, 24, 24), 0.069181, 7.352703e-03),
        ((2, 3, 2, 5, 6), 0.213636, 1.495605e-01),  # two frames: no window in time
        ((2, 3, 1, 5, 6), 0.303759, 2.671413e-01),
    ],
)
def test_values_and_gradients_of_the_reference(shape, value, norm):
    recon, target = waves(shape)
    recon.requires_grad_()
    ours = loss(recon, target)
    ours.backward()
    assert float(ours.detach()) == pytest.approx(value, rel=1e-5, abs=1e-6)
    assert float(recon.grad.norm()) == pytest.approx(norm, rel=1e-4)
    assert float(loss(target, target)) == pytest.approx(0, abs=1e-6)


def test_scale_and_offset_of_a_clip_do_not_matter():
    recon, target = waves((2, 3, 4, 5, 6))
    factor, shift = (
        torch.tensor([3.0, 0.2]).view(2, 1, 1, 1, 1),
        torch.tensor([-5.0, 1.0]).view(2, 1, 1, 1, 1),
    )
    moved = loss(recon * factor + shift, target * factor + shift)
    assert float(moved) == pytest.approx(float(loss(recon, target)), rel=1e-4)


def test_the_target_gets_no_gradient_and_half_precision_is_computed_in_full():
    recon, target = (x.requires_grad_() for x in waves((1, 3, 4, 5, 6)))
    loss(recon, target).backward()
    assert target.grad is None and recon.grad is not None
    low = loss(recon.detach().half(), target.half())
    assert low.dtype == torch.float32
    assert float(low) == pytest.approx(float(loss(recon.detach(), target)), rel=1e-2)


def test_frames_and_rows_of_a_grid():
    """Pixels as target, and a grid that is not square."""
    recon, target = waves((1, 3, 4, 5, 6))
    frames = [x.transpose(1, 2) for x in (recon, target)]
    clip = Clip(frames[0], torch.ones(1, 4, dtype=torch.bool), torch.arange(1), ("",))
    output = Output(slots=recon, attn=recon, grid=Grid(5, 6), recon=frames[0], target=frames[1])
    assert float(SSIM()(output, clip)) == pytest.approx(float(loss(recon, target)), rel=1e-6)


def test_cubes_with_a_padded_frame_do_not_count():
    recon, target = waves((1, 3, 5, 5, 6))
    recon[:, :, 4] = target[:, :, 4] = 0  # padding, inside the range of the rest
    recon[:, :, 4, 0] = 0.5
    valid = torch.tensor([[True] * 4 + [False]])
    assert float(loss(recon, target, valid)) == pytest.approx(
        float(loss(recon[:, :, :4], target[:, :, :4])), rel=1e-5
    )
