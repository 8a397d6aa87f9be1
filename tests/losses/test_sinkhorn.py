"""The Sinkhorn divergence: what a distance of sets must do. Values: tests/reference."""

from __future__ import annotations

import pytest
import torch
from running import on_ranks
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from vocl import dist
from vocl.errors import UserError
from vocl.interface import Clip, Grid, Output
from vocl.losses.sinkhorn import SinkhornDivergence


def loss(**changes: bool) -> SinkhornDivergence:
    settings = {"blur": 0.05, "scaling": 0.5, "debias": True, "mean_over_channels": False}
    return SinkhornDivergence(**(settings | changes))


def sets(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def value(
    term: SinkhornDivergence, recon: Tensor | None, target: Tensor, valid: Tensor | None = None
) -> Tensor:
    b, t = target.shape[:2]
    valid = torch.ones(b, t, dtype=torch.bool) if valid is None else valid
    output = Output(slots=target, attn=target, grid=Grid(1, 1), recon=recon, target=target)
    return term(output, Clip(torch.zeros(b, t, 3, 1, 1), valid, torch.arange(b), ("a",) * b))


def test_the_order_within_a_frame_means_nothing():
    x, y = sets(2, 3, 8, 24), sets(2, 3, 8, 24, seed=1)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(2))
    assert float(value(loss(), x[:, :, order], x)) == pytest.approx(0, abs=1e-5)
    assert float(value(loss(), x[:, :, order], y)) == pytest.approx(float(value(loss(), x, y)), rel=1e-6)
    mixed = x.flip(1)  # a frame's set is compared with that frame's alone
    assert float(value(loss(), mixed, x)) > 1


def test_it_is_symmetric():
    x, y = sets(2, 3, 8, 24), sets(2, 3, 8, 24, seed=1)
    assert float(value(loss(), x, y)) == pytest.approx(float(value(loss(), y, x)), rel=1e-6)


def test_of_separated_sets_it_is_the_cost_of_the_best_assignment():
    y = sets(1, 2, 6, 16) * 5
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    x = y[:, :, order] + 0.3 * sets(1, 2, 6, 16, seed=1)
    costs = torch.cdist(x[0], y[0]).square() / 2
    best = torch.stack([cost[linear_sum_assignment(cost.numpy())].mean() for cost in costs])
    torch.testing.assert_close(loss().per_frame(x, y)[0], best, rtol=1e-4, atol=0)
    assert float(value(loss(mean_over_channels=True), x, y)) == pytest.approx(
        float(best.mean()) / 16, rel=1e-4
    )


def test_the_scale_of_random_sets():
    """Two sets of 32 slots of width 768 with unit variance: about 715, in 14 temperatures."""
    found = loss().per_frame(sets(1, 2, 32, 768), sets(1, 2, 32, 768, seed=1))
    assert float(found.mean()) == pytest.approx(715, rel=0.01)


def test_the_gradient_is_that_of_finite_differences(monkeypatch):
    """In directions that change it; it is exact where the rounds have converged, near assignments too."""
    monkeypatch.setattr(Tensor, "float", Tensor.double)
    y = 3 * sets(1, 2, 5, 4).double()
    x = (y.flip(2) + 0.5 * sets(1, 2, 5, 4, seed=1)).requires_grad_()
    value(loss(), x, y).backward()
    for direction in (x.grad, x.grad * (sets(1, 2, 5, 4, seed=2) > 0)):
        step = 1e-5 * direction.detach()
        with torch.no_grad():
            change = value(loss(), x + step, y) - value(loss(), x - step, y)
        assert float(change) == pytest.approx(2 * float((x.grad * step.detach()).sum()), rel=1e-4)


def test_the_target_gets_no_gradient_and_frames_that_are_padding_do_not_count():
    x, y = sets(1, 3, 5, 4).requires_grad_(), sets(1, 3, 5, 4, seed=1).requires_grad_()
    valid = torch.tensor([[True, False, True]])
    found = value(loss(), x, y, valid)
    found.backward()
    assert y.grad is None and (x.grad[0, 1] == 0).all() and (x.grad[0, 0] != 0).any()
    torch.testing.assert_close(found, loss().per_frame(x, y)[0, ::2].mean())


def test_low_precision_of_the_run_does_not_reach_it():
    x, y = sets(1, 2, 6, 16), sets(1, 2, 6, 16, seed=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = value(loss(), x, y)
    assert torch.equal(found, value(loss(), x, y))


def test_a_stage_without_reconstruction_is_one_line():
    with pytest.raises(UserError, match=r"name the terms that count in curriculum.stages.<name>.terms"):
        value(loss(), None, sets(1, 1, 2, 3))


def test_the_processes_share_one_schedule_of_temperatures(tmp_path):
    """A clip's divergence does not depend on which process has it."""
    x, y = sets(2, 2, 6, 16), sets(2, 2, 6, 16, seed=1)
    x[1], y[1] = x[1] * 20, y[1] * 20
    both = loss().per_frame(x, y)
    alone = loss().per_frame(x[:1], y[:1])
    assert not torch.equal(both[0], alone[0])  # so it could

    def function(rank: int) -> int:
        dist.start(torch.device("cpu"))
        found = loss().per_frame(x[rank : rank + 1], y[rank : rank + 1])
        dist.stop()
        return 0 if torch.allclose(found[0], both[rank], rtol=1e-6, atol=0) else 1

    log = tmp_path / "log"
    assert on_ranks(2, function, log) == [0, 0], log.read_text()
