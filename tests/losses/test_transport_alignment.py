"""Alignment along transport plans, against its formula written out."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from semantic_outputs import PATCHES, B, T, both, clip_of, rows

from vocl.errors import UserError
from vocl.losses.transport import TransportAlignment
from vocl.models.smtc import SemanticOutput


def term(**changes) -> TransportAlignment:
    settings = {"preset": None, "epsilon": 0.05, "rounds": 3, "marginal": "l1"}
    return TransportAlignment(**settings | {"floor": 1e-8, "reduction": "mean"} | changes)


def pair(loss: TransportAlignment, output: SemanticOutput, b: int, t: int, j: int) -> float:
    """One ordered pair of frames, patch by patch."""
    unit = F.normalize(output.teacher.features[b].float(), dim=-1)
    plan = loss.plan(unit[t], unit[j])
    p, q = output.semantic_masks[b, t], output.teacher.semantic_masks[b, j]
    return -sum(
        float(plan[u, v] * (q[:, v] * torch.log(p[:, u] + loss.floor)).sum())
        for u, v in itertools.product(range(PATCHES), repeat=2)
    )


@pytest.mark.parametrize(("reduction", "marginal"), [("mean", "l1"), ("sum", "uniform")])
def test_formula(reduction, marginal):
    output = rows(both(), slice(0, 2))
    loss = term(reduction=reduction, marginal=marginal)
    pairs = [(b, t, j) for b in range(2) for t, j in itertools.permutations(range(T), 2)]
    total = sum(pair(loss, output, *p) for p in pairs)
    expected = total / len(pairs) if reduction == "mean" else total / 2
    assert float(loss(output, clip_of(output))) == pytest.approx(expected, rel=1e-5)


def test_sum_and_mean_differ_by_the_number_of_pairs():
    output = both()
    mean, total = (float(term(reduction=r)(output, clip_of(output))) for r in ("mean", "sum"))
    assert total == pytest.approx(T * (T - 1) * mean)


def test_where_the_plan_is_a_permutation_it_is_the_cross_entropy(monkeypatch):
    output, order = both(), torch.randperm(PATCHES, generator=torch.Generator().manual_seed(0))
    plan = F.one_hot(order, PATCHES).float() / PATCHES  # patch u of a frame is order[u] of every other
    monkeypatch.setattr(TransportAlignment, "plan", lambda self, here, there: plan.expand(B, T, -1, -1))
    losses = []
    for t, j in itertools.permutations(range(T), 2):
        q = output.teacher.semantic_masks[:, j][..., order]
        losses.append(F.cross_entropy(output.semantic_logits[:, t], q))  # soft labels, mean over patches
    assert float(term(floor=0.0)(output, clip_of(output))) == pytest.approx(float(sum(losses)) / 12, rel=1e-5)


def test_the_student_learns_and_the_teacher_does_not():
    output = both()
    output.semantic_logits.requires_grad_()
    output.features.requires_grad_()
    output.teacher.features.requires_grad_()
    term()(output, clip_of(output)).backward()
    assert output.semantic_logits.grad.abs().sum() > 0
    assert output.features.grad is None and output.teacher.features.grad is None


def test_a_probability_of_0_is_finite_without_a_floor():
    output = both()
    output.semantic_logits = (200 * output.semantic_logits).requires_grad_()
    loss = term(floor=0.0)(output, clip_of(output))
    loss.backward()
    assert loss.isfinite() and output.semantic_logits.grad.isfinite().all()


def test_padded_frames_do_not_count():
    output = both()
    valid = torch.ones(B, T, dtype=torch.bool)
    valid[:, 3] = False
    found = term()(output, clip_of(output, valid))
    short = rows(output, slice(None), slice(0, 3))
    torch.testing.assert_close(found, term()(short, clip_of(short)))


def test_one_frame_is_refused():
    output = rows(both(), slice(None), slice(0, 1))
    with pytest.raises(UserError, match=r"dataset\.clip_frames=1"):
        term()(output, clip_of(output))
