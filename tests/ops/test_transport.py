"""Transport plans."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vocl.ops.transport import sinkhorn, spread_mass, uniform_mass


def vectors(seed: int, *shape: int) -> Tensor:
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return F.normalize(drawn, dim=-1)


@pytest.mark.parametrize("mass", [uniform_mass, spread_mass])
def test_mass_is_1_and_sums_over_rows_are_exact(mass):
    here, there = vectors(0, 2, 3, 20, 8), vectors(1, 2, 3, 30, 8)
    rows, columns = mass(here), mass(there)
    torch.testing.assert_close(rows.sum(-1), torch.ones(2, 3))
    plan = sinkhorn(1 - here @ there.transpose(-1, -2), rows, columns, 0.05, 3)
    assert plan.shape == (2, 3, 20, 30) and (plan >= 0).all()
    torch.testing.assert_close(plan.sum((-1, -2)), torch.ones(2, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(plan.sum(-2), columns, atol=1e-5, rtol=0)
    converged = sinkhorn(1 - here @ there.transpose(-1, -2), rows, columns, 0.05, 500)
    torch.testing.assert_close(converged.sum(-1), rows, atol=1e-4, rtol=0)
    assert (plan.sum(-1) - rows).abs().max() > (converged.sum(-1) - rows).abs().max()


def test_it_is_the_plan_of_least_cost_and_most_entropy():
    """The optimum: log plan + cost / epsilon is a sum of a number per row and one per column."""
    cost = torch.rand(5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows, columns = torch.full((5,), 0.2, dtype=torch.float64), torch.full((7,), 1 / 7, dtype=torch.float64)
    plan = sinkhorn(cost, rows, columns, 0.1, 1000)
    potentials = plan.log() + cost / 0.1
    rest = potentials - potentials[:, :1] - potentials[:1] + potentials[0, 0]
    torch.testing.assert_close(rest, torch.zeros_like(rest), atol=1e-9, rtol=0)
    torch.testing.assert_close(plan.sum(1), rows, atol=1e-9, rtol=0)


def test_a_permutation_of_the_patches_is_found():
    here, order = vectors(2, 16, 32), torch.randperm(16, generator=torch.Generator().manual_seed(0))
    there = here[order]
    plan = sinkhorn(1 - here @ there.t(), uniform_mass(here), uniform_mass(there), 0.025, 3)
    assert torch.equal(plan.argmax(0), order)
    torch.testing.assert_close(plan[order, torch.arange(16)], torch.full((16,), 1 / 16), atol=1e-4, rtol=0)


def test_the_largest_cost_stays_finite_in_float32_and_no_gradient_flows():
    here = vectors(3, 6, 4).requires_grad_()
    there = torch.cat([-here[:3], here[3:]]).detach()  # costs from 0 to 2
    plan = sinkhorn(1 - here @ there.t(), uniform_mass(here), uniform_mass(there), 0.025, 3)
    assert plan.isfinite().all() and not plan.requires_grad


def test_mass_of_a_patch_that_is_spread_over_channels():
    unit = torch.stack([torch.tensor([1.0, 0, 0, 0]), torch.full((4,), 0.5)])
    torch.testing.assert_close(spread_mass(unit), torch.tensor([1 / 3, 2 / 3]))
    torch.testing.assert_close(uniform_mass(unit), torch.tensor([0.5, 0.5]))
