"""Reconstruction terms: how far the decoder's output is from its target."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from vocl.interface import Clip, Output
from vocl.ops.narrow import given


class FeatureMSE(nn.Module):
    """Mean squared error to the backbone's features (DINOSAUR; SlotContrast's L_rec).

    A plain mean over every element b t n e of all valid frames; the target is detached, and
    neither normalised nor adapted.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"recon", "target"})

    def forward(self, output: Output, clip: Clip) -> Tensor:
        """Scalar, from `output.recon` and `output.target` b t n e."""
        return mean_over_valid(_frame_errors(output), clip.valid)


class ReconMSE(nn.Module):
    """Squared error to the target frames: summed over pixels and channels, mean over frames (SAVi).

    SAVi's release sums over a frame and averages over the batch and time; the global-norm clip of
    its recipe is set for that scale.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"recon", "target"})

    def forward(self, output: Output, clip: Clip) -> Tensor:
        """Scalar, from `output.recon` and `output.target` b t c h w."""
        return mean_over_valid(_frame_errors(output), clip.valid) * given(output.recon)[0, 0].numel()


def _frame_errors(output: Output) -> Tensor:
    """Mean squared error of each frame, b t, in float32."""
    return _MeanSquaredError.apply(given(output.recon), given(output.target).detach())


class _MeanSquaredError(torch.autograd.Function):
    """`recon` and `target` b t ... to b t. Keeps nothing but them: their difference, in float32 as large as
    a backbone's features, is taken again for the gradient."""

    @staticmethod
    def forward(ctx: Any, recon: Tensor, target: Tensor) -> Tensor:
        ctx.save_for_backward(recon, target)
        return _difference(recon, target).square_().flatten(2).mean(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        recon, target = ctx.saved_tensors
        factor = grad * (2 / recon[0, 0].numel())
        difference = _difference(recon, target)
        return difference.mul_(factor.reshape(*grad.shape, *[1] * (recon.ndim - 2))).to(recon.dtype), None


def _difference(recon: Tensor, target: Tensor) -> Tensor:
    """In float32 at least, also that of two tensors of low precision."""
    wide = torch.promote_types(torch.promote_types(recon.dtype, target.dtype), torch.float32)
    return torch.sub(recon, target if target.dtype == wide else target.to(wide))


def mean_over_valid(error: Tensor, valid: Tensor) -> Tensor:
    """Mean of `error` b t ... over the frames that `valid` b t marks.

    Frames of an output that has fewer than the clip (one for its middle) count alike in every clip
    with a valid frame.
    """
    per_frame = error.flatten(2).mean(-1) if error.ndim > 2 else error
    if per_frame.shape[1] != valid.shape[1]:
        valid = valid.any(1, keepdim=True).expand_as(per_frame)
    return torch.where(valid, per_frame, 0).sum() / valid.sum()
