"""Diversity of masks."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from semantic_outputs import PATCHES, B, N, T, both, clip_of, rows

from vocl.losses.diversity import MaskDiversity


def term(reduction: str = "mean", floor: float = 1e-8) -> MaskDiversity:
    return MaskDiversity(preset=None, floor=floor, reduction=reduction)


def test_formula():
    output = both()
    masks = output.semantic_masks
    cosines = [
        F.cosine_similarity(masks[b, t, n], masks[b, t, m], dim=0)
        for b in range(B)
        for t in range(T)
        for n, m in itertools.permutations(range(N), 2)
    ]
    mean = term()(output, clip_of(output))
    assert float(mean) == pytest.approx(float(torch.stack(cosines).mean()), rel=1e-5)
    total = term("sum", 0.0)(output, clip_of(output))
    assert float(total) == pytest.approx(float(torch.stack(cosines).sum()) / B, rel=1e-5)
    assert float(total) == pytest.approx(T * N * (N - 1) * float(mean), rel=1e-5)


def test_equal_masks_score_1_and_disjoint_ones_0():
    output = both()
    output.semantic_masks = torch.full((B, T, N, PATCHES), 1 / N)
    assert float(term()(output, clip_of(output))) == pytest.approx(1)
    labels = torch.arange(PATCHES) % N
    output.semantic_masks = F.one_hot(labels, N).t().float().expand(B, T, -1, -1)
    assert float(term()(output, clip_of(output))) == pytest.approx(0, abs=1e-6)


def test_a_mask_of_zeros_has_a_gradient():
    output = both()
    masks = output.semantic_masks.clone()
    masks[:, :, 0] = 0
    for floor in (0.0, 1e-8):
        output.semantic_masks = masks.clone().requires_grad_()
        term(floor=floor)(output, clip_of(output)).backward()
        assert output.semantic_masks.grad.isfinite().all()


def test_one_semantics_has_nothing_to_differ_from():
    output = both()
    output.semantic_masks = torch.ones(B, T, 1, PATCHES)
    assert float(term()(output, clip_of(output))) == 0


def test_padded_frames_do_not_count():
    output = both()
    valid = torch.ones(B, T, dtype=torch.bool)
    valid[:, 2:] = False
    short = rows(output, slice(None), slice(0, 2))
    for reduction in ("mean", "sum"):
        found = term(reduction)(output, clip_of(output, valid))
        torch.testing.assert_close(found, term(reduction)(short, clip_of(short)))
