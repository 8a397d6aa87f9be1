"""What a table shows, place by place, before any format has its say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from launch.tables.labels import label
from launch.tables.model import Place, Table, TableCell
from launch.tables.published import UNLIKE_OURS, PublishedScore

INSIDE_NOISE, INCOMPLETE, OTHER_CODE, REMARKED, NOTHING = "≈", "†", "‡", "§", "--"
PUBLISHED = "published: "


@dataclass(frozen=True)
class Shown:
    """A cell in words: `spread` with its sign, `count` in brackets, then `mark` and why seeds have none."""

    mean: str = ""
    spread: str = ""
    count: str = ""
    mark: str = ""
    gaps: str = ""
    best: bool = False
    second: bool = False
    place: Place | None = None  # where the numbers stand; None for a published one
    is_delta: bool = False

    @property
    def plain(self) -> str:
        """Without markup."""
        count, gaps = (f" {text}" if text else "" for text in (self.count, self.gaps))
        return f"{self.mean}{self.spread}{count}{self.mark}{gaps}"


Line = tuple[str, list[Shown]]


@dataclass(frozen=True)
class Grid:
    """Cells under headers of two storeys, in groups of lines, the published ones last."""

    headers: list[tuple[str, str]]
    groups: list[list[Line]]

    @property
    def lines(self) -> list[Line]:
        """All of them."""
        return [line for group in self.groups for line in group]

    @property
    def titles(self) -> list[str]:
        """The headers on one storey."""
        return [" ".join(dict.fromkeys(filter(None, header))) for header in self.headers]


def grid(table: Table) -> Grid:
    """The table as its settings want it to stand."""
    headers = list(_headers(table))
    groups = [[(row, list(_row(table, row))) for row in group] for group in table.rows]
    published = [(f"{PUBLISHED}{row}", list(_published(table, row))) for row in _published_names(table)]
    found = Grid(headers, [*groups, published] if published else groups)
    return _transposed(found) if table.settings.transpose else found


def _transposed(found: Grid) -> Grid:
    """Rows as columns: one group, each line named by its column and metric."""
    lines = [(name, [cells[i] for _, cells in found.lines]) for i, name in enumerate(found.titles)]
    return Grid([(row, "") for row, _ in found.lines], [lines])


def has_deltas(table: Table) -> bool:
    """Whether differences to a baseline are shown."""
    return table.settings.baseline is not None and table.settings.deltas


def _headers(table: Table) -> Iterator[tuple[str, str]]:
    for column in table.ablation.columns:
        for metric in table.ablation.metrics:
            name = label(metric, table.measures[metric], table.settings.names)
            yield column, name
            if has_deltas(table):
                yield column, f"Δ {label(metric, table.measures[metric], table.settings.names, arrow=False)}"


def _row(table: Table, row: str) -> Iterator[Shown]:
    for column in table.ablation.columns:
        for metric in table.ablation.metrics:
            place = (row, column, metric)
            cell, digits = table.cells.get(place), table.digits(metric)
            yield _shown(cell, digits, place, table.settings.counts) if cell else Shown()
            if has_deltas(table):
                yield _delta(cell, digits, place) if cell else Shown()


def _shown(cell: TableCell, digits: int, place: Place, counts: bool) -> Shown:
    summary = cell.summary
    marks = (OTHER_CODE if cell.other_code else "") + (REMARKED if cell.remarked else "")
    if summary is None:
        return Shown(NOTHING, mark=marks, gaps=cell.told_gaps, place=place)
    spread = "" if summary.std is None else f" ± {summary.std:.{digits}f}"
    whole = cell.complete
    count = (f"({summary.n})" if counts else "") if whole else f"({summary.n}/{cell.wanted})"
    mean, gaps = f"{summary.mean:.{digits}f}", cell.told_gaps
    mark = ("" if whole else INCOMPLETE) + marks
    return Shown(mean, spread, count, mark, gaps, cell.best, cell.second, place)


def _delta(cell: TableCell, digits: int, place: Place) -> Shown:
    if cell.delta is None:
        return Shown()
    mark = f" {INSIDE_NOISE}" if cell.delta.is_inside_noise else ""
    return Shown(f"{cell.delta.mean:+.{digits}f}", mark=mark, place=place, is_delta=True)


def _theirs(table: Table, score: PublishedScore, metric: str) -> Shown:
    """A published number; `metric`: what it is called in the table."""
    factor, digits = table.factor(metric), table.digits(metric)
    return Shown(
        mean=f"{factor * score.value:.{digits}f}",
        spread="" if score.std is None else f" ± {factor * score.std:.{digits}f}",
        count=f"({score.n})" if score.n is not None and table.settings.counts else "",
        mark="" if score.comparable else UNLIKE_OURS,
    )


def _published_names(table: Table) -> list[str]:
    return list(dict.fromkeys(row for row, _, _ in table.published))


def _published(table: Table, row: str) -> Iterator[Shown]:
    for column in table.ablation.columns:
        for metric in table.ablation.metrics:
            score = table.published.get((row, column, metric))
            yield Shown() if score is None else _theirs(table, score, metric)
            if has_deltas(table):
                yield Shown()
