"""Agglomerative clustering of a few vectors, through scipy; k-means of many."""

from __future__ import annotations

import numpy as np
import torch
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from torch import Tensor


def cosine_distances(vectors: np.ndarray) -> np.ndarray:
    """1 - cosine of every pair of the rows m d of `vectors`: m m float64. A zero vector is at 1 from all."""
    vectors = vectors.astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(lengths > 0, lengths, 1)
    distances = np.clip(1 - unit @ unit.T, 0, 2)
    np.fill_diagonal(distances, 0)
    return (distances + distances.T) / 2


def complete_linkage(vectors: np.ndarray, threshold: float) -> np.ndarray:
    """Clusters of the rows m d of `vectors`: m labels, numbered by their first member.

    Cosine distance, complete linkage: two clusters merge while their farthest members are nearer
    than `threshold` (not at it).
    """
    if len(vectors) < 2:
        return np.zeros(len(vectors), np.int64)
    tree = linkage(squareform(cosine_distances(vectors), checks=False), method="complete")
    found = fcluster(tree, t=np.nextafter(threshold, -np.inf), criterion="distance")
    _, first, inverse = np.unique(found, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def nearest(points: Tensor, centroids: Tensor) -> Tensor:
    """Index of the nearest of `centroids` ... k e for each of `points` ... m e: ... m int64."""
    return torch.cdist(points, centroids).argmin(-1)


def spread_points(points: Tensor, count: int, draw: torch.Generator) -> Tensor:
    """`count` of the `points` m e, far from each other by chance (k-means++).

    Arthur and Vassilvitskii, "k-means++: the advantages of careful seeding" (2007): each with a chance
    proportional to its squared distance to those chosen already.
    """
    chosen = [int(torch.randint(len(points), (1,), generator=draw))]
    away = points.new_full((len(points),), torch.inf)
    while len(chosen) < count:
        away = away.minimum((points - points[chosen[-1]]).square().sum(-1))
        total = away.cpu().double().cumsum(0)
        chance = torch.rand(1, generator=draw, dtype=torch.float64) * total[-1]
        chosen.append(min(int(torch.searchsorted(total, chance, right=True)), len(points) - 1))
    return points[chosen]


def kmeans(points: Tensor, count: int, iterations: int, restarts: int, draw: torch.Generator) -> Tensor:
    """Centroids `count` e of `points` m e, by rounds of Lloyd's algorithm from k-means++.

    The best of `restarts` tries, by the sum of squared distances. A cluster that loses all its points
    keeps its place.
    """
    tries = [_lloyd(points, spread_points(points, count, draw), iterations) for _ in range(restarts)]
    errors = [float(torch.cdist(points, found).amin(-1).double().square().sum()) for found in tries]
    return tries[int(np.argmin(errors))]


def _lloyd(points: Tensor, centroids: Tensor, iterations: int) -> Tensor:
    for _ in range(iterations):
        labels = nearest(points, centroids)
        sums = torch.zeros_like(centroids).index_add_(0, labels, points)
        sizes = torch.bincount(labels, minlength=len(centroids)).unsqueeze(1)
        centroids = torch.where(sizes > 0, sums / sizes.clamp(min=1), centroids)
    return centroids
