"""What an evaluation returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Report:
    """`rows`: one mapping per video, sorted by its name; `metrics`: means over the split, fractions."""

    protocol: str
    rows: list[dict[str, Any]]
    metrics: dict[str, float]
