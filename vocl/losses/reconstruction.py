"""Reconstruction terms: how far the decoder's output is from its target."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

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
        return mean_over_valid(_squared_error(output), clip.valid)


class ReconMSE(nn.Module):
    """Squared error to the target frames: summed over pixels and channels, mean over frames (SAVi).

    SAVi's release sums over a frame and averages over the batch and time; the global-norm clip of
    its recipe is set for that scale.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"recon", "target"})

    def forward(self, output: Output, clip: Clip) -> Tensor:
        """Scalar, from `output.recon` and `output.target` b t c h w."""
        error = _squared_error(output)
        return mean_over_valid(error, clip.valid) * error[0, 0].numel()


def _squared_error(output: Output) -> Tensor:
    return (given(output.recon).float() - given(output.target).float()).square()


def mean_over_valid(error: Tensor, valid: Tensor) -> Tensor:
    """Mean of `error` b t ... over the frames that `valid` b t marks.

    Frames of an output that has fewer than the clip (one for its middle) count alike in every clip
    with a valid frame.
    """
    per_frame = error.flatten(2).mean(-1)
    if per_frame.shape[1] != valid.shape[1]:
        valid = valid.any(1, keepdim=True).expand_as(per_frame)
    return torch.where(valid, per_frame, 0).sum() / valid.sum()
