"""From soft masks on the patch grid to masks of pixels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from vocl.interface import Grid


def hard_masks(masks: Tensor, grid: Grid, size: tuple[int, int]) -> Tensor:
    """Label maps b t h w (int64) from soft masks b t k n: bilinear to `size`, then argmax over k.

    Ties go to the lowest index (`max` promises it, and is faster here than `argmax`). The upsampling
    comes before the argmax, as in SlotContrast.
    """
    b = len(masks)
    soft = rearrange(masks, "b t k (r s) -> (b t) k r s", r=grid.rows)
    soft = F.interpolate(soft, size=size, mode="bilinear", align_corners=False)
    return rearrange(soft.max(dim=1).indices, "(b t) h w -> b t h w", b=b)


def stretched_masks(soft: Tensor, size: tuple[int, int], threshold: float) -> Tensor:
    """Masks k h w (bool), which may overlap, from soft ones k r s: nearest to `size`, each stretched to
    0..1, above `threshold`. A constant one gives no mask.

    Nearest takes pixel i from cell floor(i * r / h), so a value is compared once per cell.
    """
    rows, columns = (
        F.interpolate(torch.arange(cells, dtype=torch.float32)[None, None], size=side, mode="nearest")
        .long()
        .flatten()
        .to(soft.device)
        for cells, side in zip(soft.shape[1:], size, strict=True)
    )
    used = soft[:, rows.unique()][..., columns.unique()]
    low, high = used.amin((1, 2), keepdim=True), used.amax((1, 2), keepdim=True)
    above = (soft - low) / (high - low) > threshold  # 0 / 0 is not
    return above[:, rows][..., columns]
