"""From a checked config node to an object: the only place where a `_target_` is imported.

A node with a `_target_` becomes a `Part`: a call that still waits for what Python wires. So a
constructor's parameters before `*` are wired by code (widths, grids), those after `*` are set in
YAML, and no number stands in two places.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any

from vocl.errors import UserError

Part = Callable[..., Any]


def build(node: Any, packages: tuple[str, ...]) -> Any:
    """`node` with every mapping that has a `_target_` turned into a `Part`.

    Only targets defined in one of `packages` are imported; `config.check` has refused the others
    already, and this refuses them again at the point of execution.
    """
    if isinstance(node, Mapping):
        items = {key: build(value, packages) for key, value in node.items() if key != "_target_"}
        return functools.partial(locate(node["_target_"], packages), **items) if "_target_" in node else items
    if isinstance(node, list | tuple):
        return [build(item, packages) for item in node]
    return node


def locate(target: str, packages: tuple[str, ...]) -> Callable[..., Any]:
    """Import the class or function at the dotted path `target`."""
    if target.split(".")[0] not in packages:
        raise UserError(f"_target_={target}: outside the allowed packages, choose from {', '.join(packages)}")
    module, _, name = target.rpartition(".")
    return getattr(importlib.import_module(module), name)
