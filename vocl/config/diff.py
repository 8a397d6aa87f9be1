"""How two configs differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def diff(a: Any, b: Any, path: str = "") -> list[str]:
    """Dotted paths at which two configs differ, with both values."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        keys = sorted(set(a) | set(b))
        return [line for k in keys for line in diff(a.get(k), b.get(k), f"{path}.{k}" if path else k)]
    return [] if a == b else [f"{path}: {a} -> {b}"]
