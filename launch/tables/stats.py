"""Numbers of a table cell from the scores of its seeds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Summary:
    """Mean and sample standard deviation (ddof = 1; None below two values) of `n` values."""

    mean: float
    std: float | None
    n: int


def summarise(values: Sequence[float]) -> Summary | None:
    """Summary of `values`, None when there are none."""
    if not values:
        return None
    return Summary(
        statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values)
    )


def paired_difference(values: Mapping[int, float], baseline: Mapping[int, float]) -> Summary | None:
    """Summary of value - baseline over the seeds that both have."""
    return summarise([values[seed] - baseline[seed] for seed in values if seed in baseline])
