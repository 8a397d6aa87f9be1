"""Agglomerative clustering of a few vectors, through scipy."""

from __future__ import annotations

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform


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
