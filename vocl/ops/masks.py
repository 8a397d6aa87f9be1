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


def majority_masks(masks: Tensor, void: Tensor, grid: Grid) -> Tensor:
    """Patches t n (0 or 1) of which most of the pixels that count are set: `masks`, `void` t h w bool."""
    counts = rearrange(~void, "t h w -> t 1 h w").float()
    inside = counts * rearrange(masks, "t h w -> t 1 h w")
    share, whole = (F.interpolate(x, size=grid, mode="area") for x in (inside, counts))
    return rearrange((share > whole / 2).float(), "t 1 r s -> t (r s)")


def slot_masks(masks: Tensor, grid: Grid, size: tuple[int, int], exclusive: bool, threshold: float) -> Tensor:
    """Masks k h w (bool) of the slots of a frame, from soft ones k n: by argmax, or stretched."""
    if not exclusive:
        return stretched_masks(rearrange(masks, "k (r s) -> k r s", r=grid.rows), size, threshold)
    labels = hard_masks(masks[None, None], grid, size)[0, 0]
    return labels == rearrange(torch.arange(len(masks), device=masks.device), "k -> k 1 1")


def winning_masks(
    masks: Tensor, counts: Tensor, grid: Grid, size: tuple[int, int], threshold: float
) -> Tensor:
    """Masks k h w (bool) that do not overlap, from soft ones k n that need not share a scale: each
    enlarged (bilinear) and stretched to 0..1, the largest above `threshold` wins; `counts` k: which may."""
    maps = enlarged(masks, grid, size).masked_fill(~rearrange(counts, "k -> k 1 1"), -1)
    best = maps.max(dim=0)
    slots = rearrange(torch.arange(len(masks), device=masks.device), "k -> k 1 1")
    return (best.indices == slots) & (best.values > threshold)


def enlarged(masks: Tensor, grid: Grid, size: tuple[int, int]) -> Tensor:
    """Soft masks k n enlarged (bilinear) to k h w, each stretched to 0..1."""
    soft = rearrange(masks, "k (r s) -> 1 k r s", r=grid.rows)
    return stretched(F.interpolate(soft, size=size, mode="bilinear", align_corners=False)[0])


def stretched(soft: Tensor) -> Tensor:
    """Each map of k h w to 0..1; a constant one to 0."""
    low, high = soft.amin((1, 2), keepdim=True), soft.amax((1, 2), keepdim=True)
    return torch.where(high > low, (soft - low) / (high - low), 0.0)
