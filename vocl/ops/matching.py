"""One-to-one matching: of one problem, and of few with few for many problems at once."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor

ENUMERATED = 5  # up to so many, all permutations are tried; 6 would have 720


def assign(gain: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of `gain` r c that are matched, min(r, c) of each: those of the highest sum (Hungarian
    method), by row."""
    from scipy.optimize import linear_sum_assignment  # takes half a second, which few runs need to begin

    return linear_sum_assignment(gain, maximize=True)


def best_matching(similarity: Tensor) -> Tensor:
    """For each of p the one of q that it is matched with, ... p int64, from `similarity` ... p q = p.

    The permutation of the highest total similarity, exactly; of equal ones the first in
    lexicographic order (with more than 5 to match, whichever scipy's Hungarian method finds).
    """
    p = similarity.shape[-1]
    if p > ENUMERATED:
        problems = similarity.detach().double().cpu().numpy()
        found = np.empty(problems.shape[:-1], np.int64)
        for place in np.ndindex(problems.shape[:-2]):
            found[place] = assign(problems[place])[1]
        return torch.from_numpy(found).to(similarity.device)
    orders = torch.tensor(list(itertools.permutations(range(p))), device=similarity.device)
    with torch.no_grad():
        rows = torch.arange(p, device=similarity.device)
        totals = similarity[..., rows, orders].sum(-1)
        return orders[totals.max(-1).indices]
