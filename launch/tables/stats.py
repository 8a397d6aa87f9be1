"""Numbers of a table cell: mean, deviation, confidence, and whether a difference is more than noise.

Letters: s seeds, v videos. A score of seed i on video j is taken as its method's mean plus an effect of the
video, one of the seed and a remainder. Two rows of a table share their videos, not their seeds: a seed
draws other weights in another architecture, so seeds are no pairs.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

DRAWS = 2000  # of the bootstrap
UNLIKE = 0.02  # of Bartlett's test: below, rows of a column scatter unlike
POOL_BELOW = 0.5  # seeds add nothing to the remainder: the ratio of variances is in its lower half


@dataclass(frozen=True)
class Summary:
    """Mean and sample standard deviation (ddof = 1; None below two values) of `n` values.

    `low`, `high`: a confidence interval of the mean; None where it is not known.
    """

    mean: float
    std: float | None
    n: int
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Difference:
    """Mean of a row minus that of the baseline, its confidence interval, and p of a gap so wide by chance.

    Only `mean` where a side has one seed alone and no variance is known. `noise`: p above which it is
    called noise.
    """

    mean: float
    noise: float
    std: float | None = None  # over the differences of equal seeds
    low: float | None = None
    high: float | None = None
    p: float | None = None

    @property
    def is_inside_noise(self) -> bool:
        """Whether chance explains it."""
        return self.p is None or self.p > self.noise


class Sample:
    """The scores of one row: `values` by seed; `shared`: the videos that every seed has a score of, sorted.

    `videos`: seed -> video -> score, where runs kept them; they are held as one matrix.
    """

    def __init__(self, values: dict[int, float], videos: Mapping[int, Mapping[str, float]] | None = None):
        self.values, videos = values, videos or {}
        sets = [set(videos[seed]) for seed in values if seed in videos]
        self.shared = sorted(set.intersection(*sets)) if len(sets) == len(values) and sets else []
        self._table: np.ndarray | None = None
        if len(values) > 1 and len(self.shared) > 1:
            import numpy as np

            self._table = np.array([[videos[seed][name] for name in self.shared] for seed in values])

    @cached_property
    def mean(self) -> float:
        """Over seeds."""
        return statistics.fmean(self.values.values())

    def matrix(self, names: Sequence[str] | None = None) -> np.ndarray | None:
        """Scores s v of the videos that every seed has (those of `names`); None without two of either."""
        if self._table is None or names is None or names == self.shared:
            return self._table
        if len(names) < 2:
            return None
        place = {name: i for i, name in enumerate(self.shared)}
        return self._table.take([place[name] for name in names], axis=1)


def summarise(sample: Sample, level: float | None = None) -> Summary | None:
    """Summary of a sample, with its interval at `level`; None when it has no values."""
    values = list(sample.values.values())
    if not values:
        return None
    low, high = (level and interval(sample, level)) or (None, None)
    return Summary(sample.mean, _deviation(values), len(values), low, high)


def _deviation(values: Sequence[float]) -> float | None:
    """Of a sample (ddof = 1); None below two values. `statistics.stdev` counts in fractions, which a thousand
    cells do not need."""
    return math.sqrt(_variance(values)) if len(values) > 1 else None


def _variance(values: Sequence[float]) -> float:
    mean = statistics.fmean(values)
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)


def interval(sample: Sample, level: float) -> tuple[float, float] | None:
    """A confidence interval of the mean: t times the error of the hierarchical bootstrap.

    Seeds are drawn, then videos. The bootstrap of s seeds shows (s - 1) / s of their variance, so their
    deviations are widened by the root of its inverse. Its percentiles would be too narrow for a few seeds;
    the quantile of t, with degrees of freedom by Satterthwaite, is not. Where no scores of videos are
    kept, of seeds alone. None below two seeds.
    """
    import numpy as np
    from scipy import special  # `stats` takes long to import, and checks arguments at length

    number = len(sample.values)
    if number < 2:
        return None
    means = np.array(list(sample.values.values()))
    drawn = _drawn(number, 0)  # draws s
    shifts = [math.sqrt(number / (number - 1)) * (drawn @ (means - means.mean()))]
    freedoms = [number - 1]
    table = sample.matrix()
    if table is not None:
        within = table - table.mean(1, keepdims=True)
        shifts.append(np.einsum("dv,dv->d", drawn @ within, _drawn(table.shape[1], 1)))
        freedoms.append(table.shape[1] - 1)
    variances = [float(part.var()) for part in shifts]
    if not sum(variances):
        return float(means.mean()), float(means.mean())
    freedom = sum(variances) ** 2 / sum(v**2 / own for v, own in zip(variances, freedoms, strict=True))
    reach = float(special.stdtrit(freedom, (1 + level) / 2)) * float(sum(shifts).std())
    return float(means.mean() - reach), float(means.mean() + reach)


@functools.lru_cache(maxsize=64)
def _drawn(number: int, seed: int) -> np.ndarray:
    """How often each of `number` is drawn, as a share, in every draw; the same for all cells."""
    import numpy as np

    drawn = np.random.default_rng(seed).multinomial(number, np.full(number, 1 / number), DRAWS) / number
    drawn.flags.writeable = False
    return drawn


@dataclass(frozen=True)
class Variance:
    """Of the mean of one seed, estimated with `freedom` degrees of freedom.

    `is_shared`: the rows that it was estimated from scatter alike, as far as they tell.
    """

    value: float
    freedom: float
    is_shared: bool = True


def seed_variance(samples: Sequence[Sample]) -> Variance | None:
    """How much the mean of a seed scatters, from all rows of a column; None where no row has two seeds.

    Where seeds differ no more than the remainder of their videos explains (the F test's p is above 1 -
    `POOL_BELOW`), that remainder is pooled with it: it is known from many more values. Where Bartlett's
    test says that rows scatter unlike, it is not to stand for a row that has an own one.
    """
    import numpy as np
    from scipy import special

    rows = [np.array(list(sample.values.values())) for sample in samples if len(sample.values) > 1]
    if not rows:
        return None
    squares = sum(float(((row - row.mean()) ** 2).sum()) for row in rows)
    freedom = float(sum(len(row) - 1 for row in rows))
    spread = [row for row in rows if np.ptp(row)]
    alike = len(spread) == len(rows) and (len(rows) < 2 or _bartlett(rows) > UNLIKE)
    own = Variance(squares / freedom, freedom, bool(alike or squares == 0))
    rest_squares = rest_freedom = 0.0
    for table in (table for sample in samples if (table := sample.matrix()) is not None):
        rest_squares += _remainder(table) / table.shape[1]
        rest_freedom += (table.shape[0] - 1) * (table.shape[1] - 1)
    if not own.is_shared or not rest_squares:
        return own
    if special.fdtr(freedom, rest_freedom, own.value / (rest_squares / rest_freedom)) > POOL_BELOW:
        return own
    return Variance((squares + rest_squares) / (freedom + rest_freedom), freedom + rest_freedom)


def _bartlett(rows: Sequence[np.ndarray]) -> float:
    """p of Bartlett's test that `rows` have one variance, as `scipy.stats.bartlett`, whose module takes 50 MB
    and a third of a second to import."""
    import numpy as np
    from scipy import special

    freedoms = np.array([len(row) - 1 for row in rows])
    variances = np.array([row.var(ddof=1) for row in rows])
    total = freedoms.sum()
    pooled = (freedoms @ variances) / total
    statistic = total * np.log(pooled) - freedoms @ np.log(variances)
    statistic /= 1 + ((1 / freedoms).sum() - 1 / total) / (3 * (len(rows) - 1))
    return float(special.chdtrc(len(rows) - 1, statistic))


def _remainder(table: np.ndarray) -> float:
    """Squares of what neither seed nor video explains, of scores s v."""
    rest = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    return float((rest**2).sum())


def difference(row: Sample, baseline: Sample, seeds: Variance | None, noise: float) -> Difference | None:
    """`row` minus `baseline`, paired over their videos; None where a side has no score.

    A t test: its error has the variance of seeds (of all rows where these scatter alike, else of each side;
    see `seed_variance`), and how much the gap itself differs between videos beyond what seeds make of it,
    with degrees of freedom by Satterthwaite.
    """
    if not row.values or not baseline.values:
        return None
    gap = row.mean - baseline.mean
    gaps = [value - baseline.values[seed] for seed, value in row.values.items() if seed in baseline.values]
    deviation = _deviation(gaps)
    if seeds is None:
        return Difference(gap, noise, deviation)
    from scipy import special

    parts = [*_of_seeds(row, seeds), *_of_seeds(baseline, seeds)]
    if seeds.is_shared:
        parts = [(sum(value for value, _ in parts), seeds.freedom)]
    parts += _between_videos(row, baseline)
    variance = sum(value for value, _ in parts)
    if variance == 0:
        return Difference(gap, noise, deviation, gap, gap, float(gap == 0))
    freedom = variance**2 / sum(value**2 / own for value, own in parts)
    error = math.sqrt(variance)
    reach = float(special.stdtrit(freedom, 1 - noise / 2)) * error
    p = 2 * float(special.stdtr(freedom, -abs(gap) / error))
    return Difference(gap, noise, deviation, gap - reach, gap + reach, p)


def _of_seeds(sample: Sample, seeds: Variance) -> list[tuple[float, float]]:
    """The variance of a row's mean that comes from its seeds, and its degrees of freedom."""
    number = len(sample.values)
    if seeds.is_shared or number < 2:
        return [(seeds.value / number, seeds.freedom)]
    return [(_variance(list(sample.values.values())) / number, number - 1)]


def _between_videos(row: Sample, baseline: Sample) -> list[tuple[float, float]]:
    """The variance of the mean gap that comes from the choice of videos, and its degrees of freedom."""
    alike = row.shared == baseline.shared
    names = row.shared if alike else sorted(set(row.shared) & set(baseline.shared))
    tables = [side.matrix(names) for side in (row, baseline)]
    if tables[0] is None or tables[1] is None:
        return []
    gaps = tables[0].mean(0) - tables[1].mean(0)
    remainder = 0.0
    for table in tables:
        assert table is not None
        remainder += _remainder(table) / ((table.shape[0] - 1) * (len(names) - 1)) / table.shape[0]
    own = max(0.0, float(gaps.var(ddof=1)) - remainder) / len(names)
    return [(own, len(names) - 1)] if own else []
