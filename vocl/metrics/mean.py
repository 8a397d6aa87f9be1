"""The mean of a score over samples, on any number of ranks."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric


class Mean(Metric):
    """Sum of a score's values over their number; nan where there is none.

    The states are sums in float64, so several ranks give the same mean as one.
    """

    is_differentiable = False
    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, *samples: tuple[float, int]) -> None:
        """Add sums of values, each with the number of values in it."""
        for total, count in samples:
            self.total += total
            self.count += count

    def compute(self) -> Tensor:
        """The mean so far, over all ranks: a float64 scalar."""
        return self.total / self.count
