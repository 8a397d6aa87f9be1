"""What a `_target_` takes and declares, read from its source with `ast`: nothing is imported.

So a config can be checked in milliseconds, on machines without torch, and before any of its code
could run.
"""

from __future__ import annotations

import ast
import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import annotated_types

from vocl.errors import UserError

BOUNDS = ("Ge", "Gt", "Le", "Lt")
TYPES: dict[str, Any] = {
    **{kind.__name__: kind for kind in (int, float, bool, str, list, tuple, dict)},
    **{name: getattr(annotated_types, name) for name in BOUNDS},
    "Annotated": Annotated,
    "Literal": Literal,
    "Any": Any,
}


class Part:
    """Marks a parameter whose value is a node with a `_target_` of its own."""


TYPES["Part"] = Part


@dataclass(frozen=True, eq=False)  # compared by identity: a changed file gives a new object
class Signature:
    """The keyword-only parameters of a class or function, and its class attributes. Never changed."""

    parameters: dict[str, Any]  # name -> type
    attributes: dict[str, Any]  # `needs`, `provides`, ...


NOTHING = Signature({}, {})


def read(target: str, packages: dict[str, Path]) -> Signature:
    """Signature of the dotted path `target`, defined in one of `packages` (name -> folder).

    Raises `UserError` if it is defined nowhere there.
    """
    module, _, name = target.rpartition(".")
    found = _module_file(module, packages)
    if found is None:
        raise UserError(f"_target_={target}: no module {module!r} in {', '.join(packages)}")
    path, mtime_ns = found
    definition = _definitions(path, mtime_ns).get(name)
    if definition is None:
        names = sorted(n for n in _definitions(path, mtime_ns) if not n.startswith("_"))
        raise UserError(f"_target_={target}: {module} defines no {name!r}; choose from {', '.join(names)}")
    try:
        if isinstance(definition, ast.FunctionDef):
            return _function_signature(definition)
        imports = _imports(path, mtime_ns, module)
        return _class_signature(definition, _base_signature(definition, module, imports, packages))
    except UserError as error:
        raise UserError(f"{path}: {name}: {error}") from None


@functools.lru_cache(maxsize=256)
def _function_signature(node: ast.FunctionDef) -> Signature:
    return Signature(_keyword_only(node), {})


@functools.lru_cache(maxsize=256)
def _class_signature(node: ast.ClassDef, base: Signature) -> Signature:
    """What `node` adds to `base`. Syntax trees are equal only to themselves, and cached by file."""
    attributes = base.attributes | _attributes(node, base.attributes)
    init = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    if init is not None:
        return Signature(_keyword_only(init), attributes)
    if any("dataclass" in ast.unparse(d) for d in node.decorator_list):
        fields = [n for n in node.body if isinstance(n, ast.AnnAssign)]
        own = {
            n.target.id: _type(n.annotation) for n in fields if "ClassVar" not in ast.unparse(n.annotation)
        }
        return Signature(base.parameters | own, attributes)
    return Signature(base.parameters, attributes)


def _base_signature(
    node: ast.ClassDef, module: str, imports: dict[str, str], packages: dict[str, Path]
) -> Signature:
    """Signature of the first base class that one of `packages` defines, else an empty one."""
    for base in node.bases:
        if not isinstance(base, ast.Name):
            continue
        target = imports.get(base.id, f"{module}.{base.id}")
        if target.split(".")[0] in packages:
            return read(target, packages)
    return NOTHING


def _keyword_only(node: ast.FunctionDef) -> dict[str, Any]:
    return {arg.arg: _type(arg.annotation) for arg in node.args.kwonlyargs}


def _type(annotation: ast.expr | None) -> Any:
    """The typing object of an annotation, evaluated in the closed vocabulary `TYPES`."""
    allowed = (
        ast.Expression,
        ast.Name,
        ast.Load,
        ast.Subscript,
        ast.Tuple,
        ast.Constant,
        ast.BinOp,
        ast.BitOr,
    )
    if annotation is None:
        raise UserError("a keyword-only parameter has no annotation")
    tree = ast.Expression(annotation)
    for node in ast.walk(tree):
        bound = isinstance(node, ast.Call) and ast.unparse(node.func) in BOUNDS
        known = not isinstance(node, ast.Name) or node.id in TYPES
        if not (known and (bound or isinstance(node, (*allowed, ast.UnaryOp, ast.USub)))):
            raise UserError(f"annotation {ast.unparse(annotation)}: choose from {', '.join(TYPES)}")
    return eval(compile(tree, "<annotation>", "eval"), {"__builtins__": {}}, TYPES)


def _attributes(node: ast.ClassDef, inherited: dict[str, Any]) -> dict[str, Any]:
    """Class attributes whose value is a literal, a frozenset of literals, or a union with the base's."""
    found = {}
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and item.value is not None:
            name, value = item.target.id, item.value
        elif isinstance(item, ast.Assign) and isinstance(item.targets[0], ast.Name):
            name, value = item.targets[0].id, item.value
        else:
            continue
        try:
            found[name] = _literal(value, inherited.get(name))
        except ValueError:
            continue
    return found


def _literal(value: ast.expr, inherited: Any) -> Any:
    if isinstance(value, ast.BinOp) and isinstance(value.op, ast.BitOr):
        return _literal(value.left, inherited) | _literal(value.right, inherited)
    if isinstance(value, ast.Attribute) and inherited is not None:
        return inherited
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "frozenset":
        return frozenset(ast.literal_eval(value.args[0])) if value.args else frozenset()
    return ast.literal_eval(value)


def _module_file(module: str, packages: dict[str, Path]) -> tuple[str, int] | None:
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
        return ast.parse(Path(path).read_text(), path)
    except (SyntaxError, ValueError) as error:
        line = f":{error.lineno}" if isinstance(error, SyntaxError) else ""
        raise UserError(f"_target_: {path}{line}: not valid Python: {getattr(error, 'msg', error)}") from None


@functools.lru_cache(maxsize=256)
def _definitions(path: str, mtime_ns: int) -> dict[str, ast.ClassDef | ast.FunctionDef]:
    body = _tree(path, mtime_ns).body
    return {node.name: node for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef)}


@functools.lru_cache(maxsize=256)
def _imports(path: str, mtime_ns: int, module: str) -> dict[str, str]:
    """Dotted path of every name that `module` imports from another."""
    found = {}
    for node in (n for n in _tree(path, mtime_ns).body if isinstance(n, ast.ImportFrom)):
        above = module.split(".")[: -node.level] if node.level else []
        source = ".".join([*above, *([node.module] if node.module else [])])
        found |= {a.asname or a.name: f"{source}.{a.name}" for a in node.names}
    return found
