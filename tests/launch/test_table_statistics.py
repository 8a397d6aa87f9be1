"""Means, intervals and the mark of noise, against scipy, a plain bootstrap, and simulated runs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from launch.tables.stats import Sample, Summary, difference, interval, seed_variance, summarise


def sample(table: np.ndarray) -> Sample:
    """Scores s v as the runs of a row keep them."""
    videos = {seed: {f"v{i}": float(x) for i, x in enumerate(row)} for seed, row in enumerate(table)}
    return Sample({seed: float(row.mean()) for seed, row in enumerate(table)}, videos)


def alone(*values: float) -> Sample:
    return Sample(dict(enumerate(values)))


def test_summary_by_hand() -> None:
    assert summarise(alone()) is None
    assert summarise(alone(3.0)) == Summary(3.0, None, 1)
    assert summarise(alone(1.0, 2.0, 6.0)) == Summary(3.0, pytest.approx(7**0.5), 3)


def test_without_videos_it_is_the_t_test_of_scipy() -> None:
    a, b = (50.1, 52.3, 49.0), (47.2, 48.8, 48.1)
    row, baseline = alone(*a), alone(*b)
    found = difference(row, baseline, seed_variance([row, baseline]), 0.1)
    expected = stats.ttest_ind(a, b)
    assert found is not None and found.p == pytest.approx(expected.pvalue)
    low, high = expected.confidence_interval(0.9)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert found.is_inside_noise == (expected.pvalue > 0.1)


def test_one_seed_has_no_interval_and_is_noise_unless_others_say_how_seeds_scatter() -> None:
    row, baseline, other = alone(70.0), alone(50.0), alone(50.0, 51.0, 49.0)
    assert interval(row, 0.95) is None
    bare = difference(row, baseline, seed_variance([row, baseline]), 0.05)
    assert bare is not None and bare.p is None and bare.is_inside_noise
    known = difference(row, baseline, seed_variance([row, baseline, other]), 0.05)
    assert known is not None and not known.is_inside_noise
    assert difference(row, Sample({}), None, 0.05) is None


def test_the_interval_is_that_of_a_bootstrap_written_as_loops() -> None:
    rng = np.random.default_rng(3)
    table = 50 + rng.normal(0, 4, (5, 1)) + rng.normal(0, 10, (1, 12)) + rng.normal(0, 3, (5, 12))
    drawn = []
    for _ in range(4000):
        seeds = rng.integers(0, 5, 5)
        means = table[seeds].mean(1)
        wide = table.mean() + np.sqrt(5 / 4) * (means.mean() - table.mean())
        videos = rng.integers(0, 12, 12)
        drawn.append(wide + np.mean([table[s, videos].mean() - table[s].mean() for s in seeds]))
    expected = np.quantile(drawn, [0.05, 0.95])
    np.testing.assert_allclose(interval(sample(table), 0.9), expected, atol=0.8)


def test_videos_that_all_gain_alike_are_known_better_than_seeds_alone_tell() -> None:
    rng = np.random.default_rng(0)
    videos = rng.normal(50, 20, 40)
    effects = rng.normal(0, 3, (2, 3, 40))
    effects -= effects.mean(2, keepdims=True)  # seeds that do not differ but by the remainder
    a, b = (sample(videos + own + shift) for own, shift in zip(effects, (1.5, 0.0), strict=True))
    variance = seed_variance([a, b])
    assert variance is not None and variance.freedom > 50
    gap = difference(a, b, variance, 0.05)
    assert gap is not None and gap.p < 0.05


def inside(
    gap: float, seed_std: float, rest_std: float, rows: int, draws: int = 200, videos: int = 30
) -> float:
    """How often a gap of `gap` standard deviations of a run's score is marked, of 3 seeds a row."""
    rng = np.random.default_rng(0)
    deviation = np.hypot(seed_std, rest_std / np.sqrt(videos))
    marked = 0
    for _ in range(draws):
        base = rng.normal(50, 15, videos)
        shifts = [gap * deviation, *[0.0] * (rows - 1)]
        noise = [rng.normal(0, seed_std, (3, 1)) + rng.normal(0, rest_std, (3, videos)) for _ in shifts]
        samples = [sample(base + own + shift) for own, shift in zip(noise, shifts, strict=True)]
        found = difference(samples[0], samples[1], seed_variance(samples), 0.09)
        assert found is not None
        marked += found.is_inside_noise
    return marked / draws


@pytest.mark.parametrize(("seed_std", "rest_std"), [(2.0, 3.0), (1.0, 6.0), (0.0, 8.0)])
def test_the_same_method_twice_is_inside_noise_and_a_gap_of_three_deviations_is_not(
    seed_std: float, rest_std: float
) -> None:
    assert inside(0.0, seed_std, rest_std, rows=2) >= 0.9
    assert inside(0.0, seed_std, rest_std, rows=6) >= 0.9
    assert inside(3.0, seed_std, rest_std, rows=8) <= 0.05
    assert inside(3.0, seed_std, rest_std, rows=2) <= 0.15, (
        "two rows of three seeds know little of their noise"
    )
