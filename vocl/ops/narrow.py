"""Values as the narrower type that they are known to have."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


def given(value: T | None) -> T:
    """A value that may be None elsewhere, not here: as what `needs` and `provides` prove before a run."""
    assert value is not None
    return value


def pair(values: Iterable[int]) -> tuple[int, int]:
    """Two numbers, such as (height, width) of a tensor's shape, as a tuple of two."""
    first, second = values
    return first, second
