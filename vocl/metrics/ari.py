"""Adjusted Rand index (ARI) of a segmentation, with the true background (ARI) or without (FG-ARI)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from vocl.metrics.contingency import TableMetric


def adjusted_rand_index(table: Tensor) -> Tensor:
    """Agreement of two partitions, corrected for chance: counts (..., c, k) -> (...) float64.

    Hubert and Arabie, "Comparing partitions" (1985), eq. 5. 1 is equality up to names, 0 what
    chance gives; it may be negative. For FG-ARI give `table[..., 1:, :]`. Where both partitions are
    trivial, so that the quotient is 0 / 0 (also: one point, or none), the value is 1.

    Numerator and denominator are multiplied by the number of pairs. Their products are then the
    same ones in every degenerate case, so a lone object split over slots gives 0 exactly. Pair
    counts are float64 before they meet: products of two overflow int64 above about 1e5 points.
    """
    table = table.to(torch.float64)
    same = _pairs(table).sum((-2, -1))
    true = _pairs(table.sum(-1)).sum(-1)
    predicted = _pairs(table.sum(-2)).sum(-1)
    every = _pairs(table.sum((-2, -1)))
    chance = true * predicted
    excess = same * every - chance
    limit = (true + predicted) / 2 * every - chance
    return torch.where(limit == 0, 1.0, excess / limit)


def _pairs(count: Tensor) -> Tensor:
    """Ordered pairs within sets of `count` points."""
    return count * (count - 1)


class AdjustedRandIndex(TableMetric):
    """Mean ARI over frames or videos.

    `foreground`: drop the points of the true background first (FG-ARI). What a slot claims of the
    background then costs nothing: report an overlap beside it.
    `empty`: what a sample with points but none of an object is worth in FG-ARI: "one" counts it as
    1, "skip" leaves it out. Published numbers differ in this. A sample all of whose points are void
    never counts.
    """

    def __init__(
        self, *, level: Literal["image", "video"], foreground: bool, empty: Literal["one", "skip"]
    ) -> None:
        super().__init__(level=level)
        self.foreground = foreground
        self.empty = empty

    def values(self, tables: Tensor) -> Tensor:
        counted = tables
        if self.foreground:
            tables = tables[:, 1:]
            counted = counted if self.empty == "one" else tables
        return adjusted_rand_index(tables).masked_fill(counted.sum((-2, -1)) == 0, torch.nan)
