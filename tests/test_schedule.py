"""Learning rates, as the papers give them."""

from __future__ import annotations

import math
from functools import partial

import pytest

from vocl import assemble
from vocl.config.compose import composed
from vocl.errors import UserError
from vocl.schedule import Constant, Cosine, CosineFrom, HalfLife, HalfLifeEvery, Ramp, Scaled


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


def test_a_warm_up_from_a_share_of_the_peak():
    rate = CosineFrom(110, warmup_steps=10, start=0.25, floor=0.2)
    assert [rate(s) for s in (0, 5, 10, 60, 110)] == pytest.approx([0.25, 0.625, 1.0, 0.6, 0.2])


def test_ramps_go_by_shares_of_the_run():
    ramp = Ramp(100, start=0.1, stop=0.5, before=1.0, after=3.0)
    assert [ramp(s) for s in (0, 10, 30, 50, 99)] == pytest.approx([1.0, 1.0, 2.0, 3.0, 3.0])
    jump = Ramp(10, start=0.25, stop=0.25, before=0.0, after=0.5)
    assert [jump(s) for s in (0, 2, 3, 9)] == [0.0, 0.0, 0.5, 0.5]
    assert Ramp(10, start=0.0, stop=0.0, before=0.0, after=0.5)(0) == 0.5
    with pytest.raises(UserError, match="cannot stop before it starts"):
        Ramp(10, start=0.5, stop=0.25, before=0.0, after=0.5)


def test_a_peak_times_a_schedule():
    scaled = Scaled(10, peak=2.0, schedule=partial(Constant, warmup_steps=4))
    assert [scaled(s) for s in (0, 2, 4, 10)] == [0.0, 1.0, 2.0, 2.0]
