"""Charts of a page as inline SVG: curves over steps, and how scores are spread over videos."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vocl.ops.palette import palette

# of the palette, in this order: its light colours do not show on paper
COLOURS = (4, 5, 2, 6, 0, 1, 7, 9, 11, 12, 16, 19, 13, 20, 23)
POINTS = 160  # of a curve
DOTS = 300  # of a row of a spread
HIGHEST = 0.99  # share of a chart's values that its axis reaches: the first losses may be far above the rest


@dataclass(frozen=True)
class Curve:
    """A line of a chart: `group` decides its colour, `tip` is said when a pointer rests on it."""

    group: str
    tip: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Scale:
    """Where a value stands between two places of a picture."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """The place of `value`, at the edge where it is beyond."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + (self.end - self.start) * min(max(share, 0.0), 1.0), 1)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Places of round numbers, and these."""
        rough = (self.high - self.low) / 5
        unit = 10.0 ** math.floor(math.log10(rough))
        step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        values = (step * n for n in range(first, math.floor(self.high / step + 1e-9) + 1))
        return [(self.at(value), f"{value:.10g}") for value in values]


def scale(values: Sequence[float], start: float, end: float) -> Scale:
    """A scale that has room for `values`, of which there is one at least."""
    low, high = min(values), max(values)
    if low == high:
        low, high = low - 0.5, high + 0.5
    return Scale(low, high, start, end)


def colours(groups: Sequence[str]) -> dict[str, str]:
    """A colour for each group."""
    known = palette()
    codes = (known[COLOURS[number % len(COLOURS)]] for number in range(len(groups)))
    return {group: f"#{r:02x}{g:02x}{b:02x}" for group, (r, g, b) in zip(groups, codes, strict=True)}


def curves(title: str, drawn: Sequence[Curve], colour: Mapping[str, str]) -> dict[str, Any]:
    """What the template of curves lays out; `drawn` holds one point at least."""
    width, height, left, bottom, top = 620, 300, 56, 34, 12
    steps, values = zip(*(point for curve in drawn for point in curve.points), strict=True)
    ordered = sorted(values)
    reach = ordered[min(len(ordered) - 1, math.ceil(HIGHEST * len(ordered)))]
    across = scale([0, *steps], left, width - 8)
    up = scale([ordered[0], reach], height - bottom, top)
    paths = [
        {
            "colour": colour[curve.group],
            "tip": curve.tip,
            "points": " ".join(f"{across.at(x)},{up.at(y)}" for x, y in _thinned(curve.points)),
        }
        for curve in drawn
        if curve.points
    ]
    places = {"left": left, "right": width - 8, "bottom": height - bottom}
    return {"title": title, "width": width, "height": height, **places, "x": across, "y": up, "paths": paths}


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    every = max(1, math.ceil(len(points) / POINTS))
    last = [points[-1]] if (len(points) - 1) % every else []
    return [*points[::every], *last]


def spread(title: str, scores: Mapping[str, Sequence[float]], colour: Mapping[str, str]) -> dict[str, Any]:
    """What the template of spreads lays out: dots for each of `scores`, one of which is not empty."""
    width, left, line, bottom = 620, 190, 38, 34
    values = [value for own in scores.values() for value in own]
    across = scale(values, left + 10, width - 14)
    rows = [
        {
            "label": row,
            "colour": colour[row],
            "y": line * number + line / 2 + 4,
            "dots": " ".join(_dots(sorted(own), across, line * number + line / 2 + 4)),
            "box": _box(own, across) if own else None,
        }
        for number, (row, own) in enumerate(scores.items())
    ]
    height = line * len(rows) + bottom + 8
    places = {"left": left, "right": width - 8, "bottom": height - bottom}
    return {"title": title, "width": width, "height": height, **places, "x": across, "rows": rows}


def _dots(ordered: Sequence[float], across: Scale, y: float) -> Iterator[str]:
    every = max(1, math.ceil(len(ordered) / DOTS))
    for number, value in enumerate(ordered[::every]):
        yield f"M{across.at(value)} {y + (number * 0.618034 % 1 - 0.5) * 18:.1f}h0"


def _box(values: Sequence[float], across: Scale) -> dict[str, Any]:
    """Quartiles and median, as places and as numbers."""
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3
    tip = f"median {middle:.3g}, half of the videos between {low:.3g} and {high:.3g}; {len(values)} videos"
    return {"low": across.at(low), "middle": across.at(middle), "high": across.at(high), "tip": tip}
