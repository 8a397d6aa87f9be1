"""How a score is read: direction, factor, decimals. Imports no torch: boards and tables use it."""

from __future__ import annotations

from dataclasses import dataclass

PERCENT = 100.0


@dataclass(frozen=True)
class Measure:
    """How a score is read.

    `higher_is_better`: None where neither direction is better (a count). `scale`: the factor it is shown
    with in tables; 100 says that it is a fraction, whose factor a table may choose (`table.scale`); a score
    in a unit of its own has 1. `digits`: decimals in tables, None for those of the table.
    """

    higher_is_better: bool | None = True
    scale: float = PERCENT
    digits: int | None = None

    @property
    def is_fraction(self) -> bool:
        """Whether a table's own factor holds."""
        return self.scale == PERCENT
