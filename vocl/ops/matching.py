"""One-to-one matching: of one problem, and of few with few for many problems at once."""

from __future__ import annotations

import math

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
    orders = _permutations(p, similarity.device)
    with torch.no_grad():
        rows = torch.arange(p, device=similarity.device)
        totals = similarity[..., rows, orders].sum(-1)
        return orders[totals.max(-1).indices]


def _permutations(p: int, device: torch.device) -> Tensor:
    """All p! orders of p things in lexicographic order, p! p, made on the device: a copy from the host would
    wait for it."""
    code = torch.arange(math.factorial(p), device=device)
    found = torch.stack([code // math.factorial(p - 1 - i) % (p - i) for i in range(p)], dim=-1)
    for i in reversed(range(p - 1)):  # a place among those that are left becomes a place among all
        found[:, i + 1 :] += found[:, i + 1 :] >= found[:, i : i + 1]
    return found
