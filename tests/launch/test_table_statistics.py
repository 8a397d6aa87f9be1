"""Means, intervals and the mark of noise, against scipy, a plain bootstrap, and simulated runs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from launch.tables.stats import UNLIKE, Sample, Summary, difference, interval, seed_variance, summarise


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


def test_the_intervals_error_is_that_of_a_bootstrap_written_as_loops() -> None:
    rng = np.random.default_rng(3)
    table = 50 + rng.normal(0, 4, (5, 1)) + rng.normal(0, 10, (1, 12)) + rng.normal(0, 3, (5, 12))
    drawn = []
    for _ in range(4000):
        seeds, videos = rng.integers(0, 5, 5), rng.integers(0, 12, 12)
        wide = np.sqrt(5 / 4) * (table[seeds].mean() - table.mean())
        drawn.append(wide + np.mean([table[s, videos].mean() - table[s].mean() for s in seeds]))
    found = interval(sample(table), 0.9)
    assert found is not None and sum(found) / 2 == pytest.approx(table.mean())
    quantile = (
        (found[1] - found[0]) / 2 / np.std(drawn)
    )  # of t with 4 (seeds) to 11 (videos) degrees of freedom
    assert 0.95 * stats.t.ppf(0.95, 11) < quantile < 1.05 * stats.t.ppf(0.95, 4)


@pytest.mark.parametrize("number", [2, 3, 5])
def test_intervals_hold_the_mean_as_often_as_they_say(number: int) -> None:
    rng = np.random.default_rng(1)
    held = [interval(alone(*rng.normal(0, 1, number)), 0.95) for _ in range(400)]
    assert np.mean([found is not None and found[0] <= 0 <= found[1] for found in held]) >= 0.92


def test_rows_that_scatter_unlike_answer_for_themselves() -> None:
    """The deviations of rows in docs/results.md: from 1.4 to 34.7."""
    rng = np.random.default_rng(0)

    def inside_noise(deviations: list[float], gap: float) -> float:
        marked = 0
        for _ in range(200):
            rows = [alone(*rng.normal(gap * (i == 0), each, 3)) for i, each in enumerate(deviations)]
            found = difference(rows[0], rows[1], seed_variance(rows), 0.09)
            marked += found is not None and found.is_inside_noise
        return marked / 200

    others = [1.4, 20.7, 6.3, 5.1]
    assert inside_noise([27.3, 34.7, *others, 2.1, 2.0], gap=0) >= 0.88
    assert inside_noise([2.1, 2.0, *others, 27.3, 34.7], gap=15) <= 0.02


def test_rows_share_a_variance_where_bartletts_test_of_scipy_lets_them() -> None:
    rng, shared = np.random.default_rng(0), []
    for _ in range(300):
        rows = [
            rng.normal(scale=rng.uniform(1, 20), size=rng.integers(2, 7)) for _ in range(rng.integers(2, 6))
        ]
        found = seed_variance([alone(*map(float, row)) for row in rows])
        assert found is not None
        shared.append(found.is_shared)
        assert found.is_shared == (stats.bartlett(*rows).pvalue > UNLIKE)
    assert 30 < sum(shared) < 270, sum(shared)  # both happen


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
