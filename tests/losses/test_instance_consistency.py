"""Consistency of instances, against its formula written out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from semantic_outputs import B, D, N, P, T, both, clip_of, rows

from vocl.losses.instance import InstanceConsistency
from vocl.models.smtc import SemanticOutput


def term(**changes) -> InstanceConsistency:
    settings = {"preset": None, "form": "cosine", "margin": 0.5, "unit": False}
    return InstanceConsistency(**settings | {"same_frame": True, "reduction": "mean"} | changes)


def one(loss: InstanceConsistency, ours, theirs, valid: bool, valid_theirs, p: int) -> float:
    """The term of object p of `ours` P d in the pair with `theirs` P d."""
    cosines = np.array([[float(F.cosine_similarity(o, h, dim=0)) for h in theirs] for o in ours])
    match = linear_sum_assignment(cosines, maximize=True)[1][p]
    others = [q for q in range(len(theirs)) if q != match]
    if not valid:
        return 0.0
    if loss.form == "cosine":
        products = theirs @ ours[p]
        push = sum(max(float(products[q]) - loss.margin, 0) for q in others) / len(others)
        return push - float(products[match]) * bool(valid_theirs[match])
    scale = (lambda x: x / x.norm()) if loss.unit else (lambda x: x)
    away = [float((scale(ours[p]) - scale(h)).norm()) for h in theirs]
    return away[match] * bool(valid_theirs[match]) + sum(max(loss.margin - away[q], 0) for q in others)


def expected(loss: InstanceConsistency, output: SemanticOutput, clips: int) -> float:
    total, count, teacher = 0.0, 0, output.teacher
    for b, n, t, j, p in itertools.product(range(clips), range(N), range(T), range(T), range(P)):
        if t == j and not loss.same_frame:
            continue
        valid = bool(output.valid[b, t, n, p])
        count += valid
        total += one(
            loss, output.objects[b, t, n], teacher.objects[b, j, n], valid, teacher.valid[b, j, n], p
        )
    return total / count if loss.reduction == "mean" else total / clips


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"margin": 0.1, "same_frame": False},
        {"form": "l2", "margin": 1.0, "same_frame": False, "reduction": "sum"},
        {"form": "l2", "margin": 2.5, "unit": True, "same_frame": True, "reduction": "sum"},
    ],
)
def test_formula(settings):
    output = rows(both(), slice(0, 2))
    if settings.get("form") == "l2":
        for who in (output, output.teacher):
            who.objects = 1.5 * who.objects + 0.1
    loss = term(**settings)
    assert float(loss(output, clip_of(output))) == pytest.approx(expected(loss, output, 2), rel=1e-5)


def test_the_match_is_the_closest_whatever_their_lengths():
    """Cosines decide also where the terms are distances."""
    output = rows(both(instances=2), slice(0, 1), slice(0, 1))
    a, b = torch.eye(D, dtype=torch.float64)[:2]
    output.objects[:] = torch.stack([a, b])
    output.teacher.objects[:] = torch.stack([5 * b, 0.1 * a])
    output.valid[:], output.teacher.valid[:] = True, True
    loss = term(form="l2", margin=0.0, reduction="sum")
    assert float(loss(output, clip_of(output))) == pytest.approx(N * (0.9 + 4))


def test_nothing_valid_costs_nothing():
    for settings in ({}, {"form": "l2", "reduction": "sum"}):
        output = both()
        output.objects.requires_grad_()
        output.valid[:] = False
        loss = term(**settings)(output, clip_of(output))
        loss.backward()
        assert float(loss.detach()) == 0 and not output.objects.grad.any()


def test_pushing_apart_asks_for_a_valid_student_alone():
    output = both()
    output.valid[:], output.teacher.valid[:] = True, False
    assert float(term(margin=0.0)(output, clip_of(output))) > 0
    output.valid[:], output.teacher.valid[:] = False, True
    assert float(term(margin=0.0)(output, clip_of(output))) == 0


def test_the_range_of_the_cosine_form():
    output = both()
    output.objects = output.teacher.objects = torch.eye(D, dtype=torch.float64)[:P].expand(B, T, N, P, D)
    output.valid[:], output.teacher.valid[:] = True, True
    assert float(term()(output, clip_of(output))) == pytest.approx(-1)
    output.objects = output.teacher.objects = torch.eye(D, dtype=torch.float64)[:1].expand(B, T, N, P, D)
    output.teacher.valid[:] = False
    assert float(term()(output, clip_of(output))) == pytest.approx(0.5)


def test_a_single_instance_has_no_others():
    output = both(instances=1)
    found = term()(output, clip_of(output))
    pulls = torch.einsum("btnpd,bjnpd->btjn", output.objects, output.teacher.objects)
    counts = output.valid[..., 0].unsqueeze(2).expand(-1, -1, T, -1)
    there = output.teacher.valid[..., 0].unsqueeze(1)
    expected = -(pulls * (counts & there)).sum() / counts.sum()
    torch.testing.assert_close(found, expected.float())


def test_equal_vectors_have_a_gradient():
    output = both()
    output.objects = output.teacher.objects.clone().requires_grad_()
    output.valid[:], output.teacher.valid[:] = True, True
    term(form="l2", reduction="sum")(output, clip_of(output)).backward()
    assert output.objects.grad.isfinite().all()


def test_the_teacher_gets_no_gradient():
    output = both()
    output.objects.requires_grad_()
    output.teacher.objects.requires_grad_()
    term()(output, clip_of(output)).backward()
    assert output.objects.grad.any() and output.teacher.objects.grad is None


def test_padded_frames_do_not_count():
    output = both()
    valid = torch.ones(B, T, dtype=torch.bool)
    valid[:, 2:] = False
    short = rows(output, slice(None), slice(0, 2))
    for settings in ({}, {"form": "l2", "reduction": "sum"}):
        found = term(**settings)(output, clip_of(output, valid))
        torch.testing.assert_close(found, term(**settings)(short, clip_of(short)))
