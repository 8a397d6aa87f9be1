"""Scores of a model that draws, as a mean over draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from vocl.interface import Report


def average(reports: Sequence[Report]) -> Report:
    """One report of several on the same videos: scores over the split, and of each video, are means.

    Of what is no number, or no two reports differ in, the first says it.
    """
    first = reports[0]
    assert all(
        [row["video"] for row in report.rows] == [row["video"] for row in first.rows] for report in reports
    )
    rows = [_mean(group) for group in zip(*(report.rows for report in reports), strict=True)]
    return replace(first, rows=rows, metrics=_mean([report.metrics for report in reports]))


def _mean(values: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Key by key."""
    columns = {key: [each[key] for each in values] for key in values[0]}
    return {key: column[0] if _alike(column) else float(np.mean(column)) for key, column in columns.items()}


def _alike(column: list[Any]) -> bool:
    return isinstance(column[0], str) or all(value == column[0] for value in column)
