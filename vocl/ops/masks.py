"""From soft masks on the patch grid to label maps."""

from __future__ import annotations

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
