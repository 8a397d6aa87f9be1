"""Which code an evaluation's scores come from. Imports nothing that it reads, and no torch."""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLLOWED = ("vocl.evaluate", "vocl.metrics")  # of this project; of a user's, all


def code_digest(settings: dict[str, Any], allowed: dict[str, Path]) -> str:
    """Digest of the source text that an evaluation with these settings scores by.

    That is its own module and those of its parts (its dataset apart), and what these import, directly or
    through each other, as far as it lies in `FOLLOWED` or in the packages of a project: so base classes
    and metrics are in it; models, data and the rest of vocl are not.
    """
    parts = {key: value for key, value in settings.items() if key not in ("_target_", "dataset")}
    waiting = [name for target in _targets(parts) if _is_followed(name := target.rpartition(".")[0])]
    waiting.append(settings["_target_"].rpartition(".")[0])
    found: dict[str, bytes] = {}
    while waiting:
        module = waiting.pop()
        file = _file(module, allowed)
        if module in found or file is None:
            continue
        found[module] = file.read_bytes()
        waiting += [name for name in _imports(file, file.stat().st_mtime_ns, module) if _is_followed(name)]
    digest = hashlib.blake2b(digest_size=8)
    for module in sorted(found):
        digest.update(f"{module}\0".encode() + found[module] + b"\0")
    return digest.hexdigest()


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("_target_"), str):
            yield node["_target_"]
        node = list(node.values())
    if isinstance(node, list):
        for item in node:
            yield from _targets(item)


def _is_followed(module: str) -> bool:
    inside = any(module == name or module.startswith(f"{name}.") for name in FOLLOWED)
    return inside or module.split(".")[0] != "vocl"


def _file(module: str, allowed: dict[str, Path]) -> Path | None:
    """The file of a module of one of the packages `allowed` (name -> folder)."""
    first, *rest = module.split(".")
    if first not in allowed:
        return None
    stem = allowed[first].joinpath(*rest)
    candidates = (stem.with_suffix(".py") if rest else stem / "__init__.py", stem / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)


@functools.lru_cache(maxsize=256)
def _imports(file: Path, mtime_ns: int, module: str) -> tuple[str, ...]:
    """Modules that the one in `file` may import; names that it takes from one are listed like modules."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return ()
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            found += [source, *(f"{source}.{alias.name}" for alias in node.names)]
    return tuple(found)
