"""Identity over frames: which segment of a frame goes on as which segment of the next."""

from __future__ import annotations

import numpy as np

from vocl.ops.clustering import cosine_distances
from vocl.ops.matching import assign


def inherit(before: np.ndarray, after: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Identities of the vectors `after` (m d) given those (`ids`, k) of `before` (k d): m integers.

    Pairs of the highest total cosine similarity (Hungarian method) hand on their identity. A vector
    of `after` that is left over takes that of its most similar one in `before`, so that identities
    may fuse; one that is not handed on is gone. None is ever created.
    """
    similarity = -cosine_distances(np.concatenate([before, after]))[: len(before), len(before) :]
    rows, columns = assign(similarity)
    out = ids[similarity.argmax(axis=0)]
    out[columns] = ids[rows]
    return out
