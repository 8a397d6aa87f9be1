"""Structural similarity of a reconstruction and its target."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from einops import rearrange
from torch import Tensor, nn

from vocl.interface import Clip, Output
from vocl.ops.narrow import given

SIDE = math.exp(-1 / (2 * 1.5**2))  # a window's neighbours, its middle being 1: Gaussian of sigma 1.5
STABLE = (0.01**2, 0.03**2)  # C1, C2 for values within 0..1


class SSIM(nn.Module):
    """1 - SSIM over space-time cubes of 3 frames x 3 x 3 patches, mean over cubes and channels (SlotCurri).

    SSIM of Wang et al. 2004 with Gaussian weights, no Bessel's correction, each channel alone; what is
    shorter than 3 is not filtered. As in the code, not in the paper: the joint minimum and maximum of a
    clip's two signals, without gradient, map both to 0..1. Deviation: float32, for variances as
    differences of moments lose their digits in the release's float16. Padded frames do not count.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"recon", "target"})

    def forward(self, output: Output, clip: Clip) -> Tensor:
        """Scalar, from `output.recon` and `output.target` b t n e (or b t c h w)."""
        recon, target = given(output.recon), given(output.target)
        layout, sizes = ("b t c h w", {}) if recon.ndim == 5 else ("b t (h w) c", {"h": output.grid.rows})
        signals = recon.float(), target.detach().float()
        recon, target = (rearrange(x, f"{layout} -> b t h w c", **sizes) for x in signals)
        low = torch.minimum(*(x.detach().amin(dim=(1, 2, 3, 4), keepdim=True) for x in (recon, target)))
        high = torch.maximum(*(x.detach().amax(dim=(1, 2, 3, 4), keepdim=True) for x in (recon, target)))
        per_time = _ssim(*((x - low) / (high - low + 1e-6) for x in (recon, target))).mean(dim=(2, 3, 4))
        span = clip.valid.shape[1] - per_time.shape[1] + 1
        valid = clip.valid.unfold(1, span, 1).all(dim=-1)
        return 1 - torch.where(valid, per_time, 0).sum() / valid.sum().clamp_min(1)


def _ssim(x: Tensor, y: Tensor) -> Tensor:
    """Similarity in each window inside b t h w c."""
    mx, my = _blur(x), _blur(y)
    vx, vy, cov = _blur(x * x) - mx * mx, _blur(y * y) - my * my, _blur(x * y) - mx * my
    means = (2 * mx * my + STABLE[0]) / (mx * mx + my * my + STABLE[0])
    return means * (2 * cov + STABLE[1]) / (vx + vy + STABLE[1])


def _blur(x: Tensor) -> Tensor:
    """Shifted sums: a grouped convolution over as many channels as features have is slow."""
    for dim in (1, 2, 3):
        if x.shape[dim] > 2:
            left, middle, right = (x.narrow(dim, i, x.shape[dim] - 2) for i in range(3))
            x = ((left + right) * SIDE + middle) / (1 + 2 * SIDE)
    return x
