"""Learning rates, as the papers give them."""

from __future__ import annotations

import math

import pytest

from vocl import assemble
from vocl.schedule import Constant, Cosine, HalfLife, HalfLifeEvery
from vocl.train import composed


def test_slotcontrast_on_movi_c():
    """Linear from 0 over 2 500 steps, then halved over the rest: 0.5 ** ((s - 2500) / 97500)."""
    optimizer = assemble.make_optimizer(composed(["experiment=slotcontrast/movi_c"]))
    rates = {0: 0.0, 1: 1.6e-7, 1250: 2e-4, 2500: 4e-4, 51250: 4e-4 * math.sqrt(0.5), 100000: 2e-4}
    for step, rate in rates.items():
        assert optimizer.rate(step) == pytest.approx(rate, rel=1e-12, abs=0), step


def test_shapes():
    assert [Constant(10, warmup_steps=4)(s) for s in (0, 2, 4, 10)] == [0.0, 0.5, 1.0, 1.0]
    assert [Constant(10, warmup_steps=0)(s) for s in (0, 10)] == [1.0, 1.0]
    assert HalfLife(100, warmup_steps=0)(100) == 0.5
    assert HalfLifeEvery(1000, warmup_steps=10, half_life_steps=20)(50) == 0.25
    cosine = Cosine(110, warmup_steps=10, floor=0.2)
    assert [cosine(s) for s in (5, 10, 60, 110, 500)] == pytest.approx([0.5, 1.0, 0.6, 0.2, 0.2])


def test_a_warm_up_longer_than_the_run():
    assert HalfLife(5, warmup_steps=10)(4) == 0.4
    assert HalfLife(5, warmup_steps=5)(5) == 1.0
