"""Means that do not depend on how clips are spread over processes."""

from __future__ import annotations

from torch import Tensor

from vocl import dist


def mean_of_all(total: Tensor, count: Tensor) -> Tensor:
    """`total` over the `count` of all ranks together, times the number of ranks.

    The mean over ranks of this is the sum of all totals over that of all counts, and likewise of
    gradients; a mean of the ranks' own means would weight ranks alike whatever they counted.
    """
    return total * dist.world() / dist.all_sum(count.detach().float().clone())
