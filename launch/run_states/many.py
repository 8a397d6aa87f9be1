"""What it takes to hold the records of ten thousand runs."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

OBJECTS, ROUNDS = 200_000, 50  # between collections of the youngest, and of these between those of older ones


@contextmanager
def few_collections() -> Iterator[None]:
    """Within the block (or the function that this decorates) Python looks for unreachable cycles seldom.

    Records are many, and live until the end: nothing is found by looking through them again and again.
    """
    before = gc.get_threshold()
    gc.set_threshold(OBJECTS, ROUNDS, ROUNDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
