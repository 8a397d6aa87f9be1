"""One-to-one matching."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from vocl.ops import matching
from vocl.ops.matching import best_matching


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("p", [1, 2, 3, 4, 5, 6, 7])
def test_as_scipy(p):
    similarity = draw(20, 3, p, p)
    found = best_matching(similarity)
    assert found.shape == (20, 3, p) and found.dtype == torch.int64
    for i, j in np.ndindex(20, 3):
        _, columns = linear_sum_assignment(similarity[i, j].numpy(), maximize=True)
        assert found[i, j].tolist() == columns.tolist()


def test_all_permutations_are_tried_up_to_the_limit(monkeypatch):
    similarity = draw(50, 4, 4)
    exact = best_matching(similarity)
    monkeypatch.setattr(matching, "ENUMERATED", 0)
    assert torch.equal(best_matching(similarity), exact)


def test_ties_go_to_the_first_permutation():
    assert best_matching(torch.zeros(2, 4, 4)).tolist() == [[0, 1, 2, 3]] * 2


def test_greedy_choices_are_not_enough():
    similarity = torch.tensor([[0.9, 0.8], [0.8, 0.1]])
    assert best_matching(similarity).tolist() == [1, 0]
