"""Percentage of correct keypoints (PCK) as label propagation counts it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SHARE = 0.6  # of the diagonal of the box around the points: the scale of a person


def correct_keypoints(
    found: np.ndarray, truth: np.ndarray, thresholds: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """How many points are right, a p, and how many count, p: `found` and `truth` t p 3 (x, y, visible).

    A point counts in every frame but the first where it is found and has a truth (CRW: one that is
    not found is not wrong). It is right at threshold a if it lies within a * 0.6 * the diagonal of
    the box around the frame's true points that count; where that is no longer than 0, only an
    exact hit is. PCK is the rate of each point over all videos, then the mean over points.
    """
    found, truth = found[1:], truth[1:]
    counts = (found[..., 2] > 0) & (truth[..., 2] > 0)
    corners = truth[..., :2]
    low = corners.min(1, where=counts[..., None], initial=np.inf)
    high = corners.max(1, where=counts[..., None], initial=-np.inf)
    diagonal = np.linalg.norm(np.maximum(high - low, 0), axis=-1)  # no point: no box, and nothing counts
    distance = np.linalg.norm(found[..., :2] - truth[..., :2], axis=-1)
    limits = np.asarray(thresholds).reshape(-1, 1, 1) * (SHARE * diagonal)[:, None]
    return ((distance <= limits) & counts).sum(1), counts.sum(0)


def pck(right: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """PCK at each threshold from sums over videos, a p and p: mean over the points that count anywhere."""
    seen = counts > 0
    return (right[:, seen] / counts[seen]).mean(1) if seen.any() else np.full(len(right), np.nan)
