"""From a config node to an object: the only place where a `_target_` is imported.

A node with a `_target_` becomes a `Part`: a call that still waits for what Python wires. So a
constructor's parameters before `*` are wired by code (widths, grids), those after `*` are set in
YAML, and no number stands in two places.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from vocl.config.proof.coerce import coerce
from vocl.errors import UserError

T = TypeVar("T")
Part = Callable[..., T]  # of a class of kind T


def build(node: Any, kind: Any, path: str, packages: dict[str, Path]) -> Any:
    """`node` with every mapping that has a `_target_` turned into a `Part`.

    `kind`: what belongs at `path`, as in `vocl.config.proof.coerce.coerce`. The config's check has proved
    already that each target is a class of the kind that belongs in its place; this proves it again from the
    source text, right before its module is imported.
    """
    return _parts(coerce(node, kind, path, packages))


def _parts(node: Any) -> Any:
    if isinstance(node, Mapping):
        items = {key: _parts(value) for key, value in node.items() if key != "_target_"}
        return functools.partial(_class(node["_target_"]), **items) if "_target_" in node else items
    if isinstance(node, list | tuple):
        return [_parts(item) for item in node]
    return node


def _class(target: str) -> type:
    module, _, name = target.rpartition(".")
    found = getattr(importlib.import_module(module), name, None)
    if not isinstance(found, type) or f"{found.__module__}.{found.__qualname__}" != target:
        raise UserError(f"_target_={target}: is not the class that its source text defines")
    return found
