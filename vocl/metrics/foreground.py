"""One foreground per frame against the truth, by several ways to choose it from a model's soft masks."""

from __future__ import annotations

import torch
from torch import Tensor

from vocl.interface import Grid
from vocl.ops.masks import enlarged, hard_masks, majority_masks, stretched
from vocl.ops.narrow import pair


def jaccard(found: Tensor, truth: Tensor, void: Tensor) -> Tensor:
    """J of masks ... h w (bool) with `truth` h w, without the pixels of `void`; 1 where both are empty."""
    shared = (found & truth & ~void).sum((-2, -1))
    union = ((found | truth) & ~void).sum((-2, -1))
    return torch.where(union > 0, shared / union.clamp(min=1), 1.0)


def oracle_foreground(masks: Tensor, grid: Grid, truth: Tensor, void: Tensor, threshold: float) -> Tensor:
    """A foreground h w (bool) from the soft masks k n of slots that fit the truth better than its complement.

    Each is enlarged (bilinear), stretched to 0..1 and cut at `threshold`; the stretched maps of those
    that fit are summed, stretched and cut again. A rule that knows the truth, used in the papers on
    unsupervised single-object segmentation without a word in the tables (SMTC's code, after Yang et
    al., "Self-supervised Video Object Segmentation by Motion Grouping", ICCV 2021).
    """
    maps = enlarged(masks, grid, pair(truth.shape))
    binary = maps > threshold
    fits = jaccard(binary, truth, void) > jaccard(binary, ~truth, void)
    return stretched(maps[fits].sum(0, keepdim=True))[0] > threshold


def patch_ceiling(truth: Tensor, void: Tensor, grid: Grid) -> Tensor:
    """What masks of whole patches can reach at best: the patches that are mostly true, h w bool."""
    patches = majority_masks(truth[None], void[None], grid)
    both = torch.stack([1 - patches, patches], dim=1)
    return hard_masks(both[None], grid, pair(truth.shape))[0, 0] == 1
