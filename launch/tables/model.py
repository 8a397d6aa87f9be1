"""What a table holds: cells with mean, deviation and count, and how each metric is read."""

from __future__ import annotations

from dataclasses import dataclass, field

from launch.ablations.ablation import Ablation, TableSettings
from launch.tables.published import PublishedScore
from launch.tables.stats import Difference, Summary
from vocl.measure import Measure

Place = tuple[str, str, str]  # row, column, metric


@dataclass(frozen=True)
class TableCell:
    """One metric of a row in a column; numbers are scaled. `best`: none is shown better in its column;
    `second`: only the best are. `gaps`: how many seeds have no number, by why (see `RunScores.gap`);
    `other_code`: whether one has a number by other code than most of the table have; `remarked`: whether
    people said something of one of its runs."""

    summary: Summary | None
    delta: Difference | None  # to the baseline row
    wanted: int  # seeds
    best: bool = False
    second: bool = False
    gaps: dict[str, int] = field(default_factory=dict)
    other_code: bool = False
    remarked: bool = False

    @property
    def told_gaps(self) -> str:
        """Its gaps in words; no count where they are all the same and all there is."""
        if list(self.gaps.values()) == [self.wanted]:
            return next(iter(self.gaps))
        return ", ".join(f"{count} {why}" for why, count in self.gaps.items())

    @property
    def complete(self) -> bool:
        """Whether every seed has a score."""
        return self.summary is not None and self.summary.n == self.wanted


@dataclass(frozen=True)
class Table:
    """Cells by (row, column, metric), published scores likewise, and what a reader must know.

    A place that the ablation excludes has no cell. `measures`: how each metric is read.
    """

    name: str
    ablation: Ablation
    settings: TableSettings
    measures: dict[str, Measure]
    cells: dict[Place, TableCell]
    published: dict[Place, PublishedScore]
    notes: list[str]

    @property
    def rows(self) -> list[list[str]]:
        """Rows in groups, as declared; what no group names comes last."""
        grouped = [row for group in self.settings.groups for row in group]
        rest = [row for row in self.ablation.rows if row not in grouped]
        return [group for group in (*self.settings.groups, rest) if group]

    def digits(self, metric: str) -> int:
        """Decimals of a metric."""
        return self.settings.digits_of(metric, self.measures[metric])

    def factor(self, metric: str) -> float:
        """What a metric is multiplied by."""
        return self.settings.factor_of(metric, self.measures[metric])
