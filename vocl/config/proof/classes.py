"""Classes and what they inherit from, found in source text with `ast`: nothing is imported."""

from __future__ import annotations

import ast
import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vocl.errors import UserError


class Packages(dict[str, Path]):
    """Packages that may define a part, name -> folder; while it lives, a class is looked up once."""

    def __init__(self, folders: Mapping[str, Path]) -> None:
        super().__init__(folders)
        self.known: dict[str, Any] = {}  # by dotted path: `vocl.config.proof.signature.Signature`


@dataclass(frozen=True, eq=False)  # compared by identity: a changed file gives a new object
class Class:
    """A class definition: its dotted path, file and syntax tree."""

    target: str
    path: str
    node: ast.ClassDef
    bases: tuple[str, ...]  # dotted paths
    names: Mapping[str, str]  # dotted path of every name that its module imports or defines

    @property
    def name(self) -> str:
        """Its own name."""
        return self.node.name


def resolution_order(target: str, packages: Mapping[str, Path]) -> tuple[Class, ...]:
    """The class at the dotted path `target` and those of `packages` that it inherits from.

    In Python's method resolution order; classes of other libraries are left out of it, and stand in
    the `bases` of those that inherit from them. Raises `UserError` for what is no public class there.
    """
    module, _, name = target.rpartition(".")
    if any(not word.isidentifier() or word.startswith("_") for word in target.split(".")):
        raise UserError(f"_target_={target}: not the dotted path of a public class")
    found = _module_file(module, packages)
    if found is None:
        raise UserError(f"_target_={target}: no module {module!r} in {', '.join(packages)}")
    defined = _definitions(*found, module)
    wanted = defined.get(name)
    if not isinstance(wanted, Class):
        choices = sorted(n for n, d in defined.items() if isinstance(d, Class) and not n.startswith("_"))
        what = "defines no class" if name in defined else "defines no"
        raise UserError(
            f"_target_={target}: {module} {what} {name!r}; choose from {', '.join(choices) or 'none'}"
        )
    return _linear(wanted, packages, ())


def dotted(spelt: str, names: Mapping[str, str]) -> str:
    """The full dotted path of `spelt` in a module whose names mean `names`."""
    first, dot, rest = spelt.partition(".")
    return names.get(first, first) + dot + rest


def _linear(found: Class, packages: Mapping[str, Path], below: tuple[str, ...]) -> tuple[Class, ...]:
    """C3 linearisation over the classes that can be read."""
    if found.target in below:
        raise UserError(f"{found.path}: {found.name}: inherits from itself")
    parents = [p for base in found.bases if (p := _class_at(base, packages, found))]
    orders = [list(_linear(p, packages, (*below, found.target))) for p in parents] + [parents[:]]
    merged = [found]
    while orders := [order for order in orders if order]:
        heads = (order[0] for order in orders)
        head = next((h for h in heads if not any(h in order[1:] for order in orders)), None)
        if head is None:
            raise UserError(f"{found.path}: {found.name}: its base classes have no consistent order")
        merged.append(head)
        orders = [[c for c in order if c is not head] for order in orders]
    return tuple(merged)


def _class_at(target: str, packages: Mapping[str, Path], user: Class, hops: int = 0) -> Class | None:
    """The class at a dotted path, through modules that only import it; None: it is of another library."""
    if target.partition(".")[0] not in packages:
        return None
    module, _, name = target.rpartition(".")
    found = _module_file(module, packages)
    defined = _definitions(*found, module).get(name) if found else None
    if isinstance(defined, Class):
        return defined
    elsewhere = _names(*found, module).get(name) if found else None
    if elsewhere in (None, target) or hops > 8:
        raise UserError(f"{user.path}: {user.name}: its base class {target} is not found")
    return _class_at(elsewhere, packages, user, hops + 1)


def _module_file(module: str, packages: Mapping[str, Path]) -> tuple[str, int] | None:
    """File of a module and when it was last changed: one system call, as checking asks hundreds of times."""
    first, *rest = module.split(".")
    if first not in packages:
        return None
    stem = os.path.join(packages[first], *rest)
    for candidate in (f"{stem}.py", os.path.join(stem, "__init__.py")):
        try:
            return candidate, os.stat(candidate).st_mtime_ns
        except OSError:
            continue
    return None


@functools.lru_cache(maxsize=256)
def _tree(path: str, mtime_ns: int) -> ast.Module:
    try:
        return ast.parse(Path(path).read_bytes(), path)
    except (SyntaxError, ValueError) as error:
        line = f":{error.lineno}" if isinstance(error, SyntaxError) else ""
        raise UserError(f"_target_: {path}{line}: not valid Python: {getattr(error, 'msg', error)}") from None


@functools.lru_cache(maxsize=256)
def _definitions(path: str, mtime_ns: int, module: str) -> dict[str, Class | ast.stmt]:
    """What a module defines at its top level by name: classes, and functions as they are."""
    names = _names(path, mtime_ns, module)
    found: dict[str, Class | ast.stmt] = {}
    for node in _tree(path, mtime_ns).body:
        if isinstance(node, ast.ClassDef):
            bases = tuple(dotted(_spelt(base), names) for base in node.bases)
            found[node.name] = Class(f"{module}.{node.name}", path, node, bases, names)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found[node.name] = node
    return found


def _spelt(base: ast.expr) -> str:
    """A base class as written, without the arguments of a generic one."""
    return ast.unparse(base.value if isinstance(base, ast.Subscript) else base)


@functools.lru_cache(maxsize=256)
def _names(path: str, mtime_ns: int, module: str) -> dict[str, str]:
    """Dotted path of every name that a module imports or defines as a class."""
    package = module.split(".") if path.endswith("__init__.py") else module.split(".")[:-1]
    found: dict[str, str] = {}
    for node in _statements(_tree(path, mtime_ns)):
        if isinstance(node, ast.ClassDef):
            found[node.name] = f"{module}.{node.name}"
        elif isinstance(node, ast.Import):
            for name in node.names:
                first = name.name.partition(".")[0]
                found[name.asname or first] = name.name if name.asname else first
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            found |= {name.asname or name.name: f"{source}.{name.name}" for name in node.names}
    return found


def _statements(tree: ast.Module) -> list[ast.stmt]:
    """Top-level statements, and those under `if TYPE_CHECKING` or `try`."""
    found: list[ast.stmt] = []
    for node in tree.body:
        found.append(node)
        if isinstance(node, ast.If | ast.Try):
            found += node.body
    return found
