"""What a `_target_` takes and declares, read from its source with `ast`: nothing is imported.

So a config can be checked in milliseconds, on machines without torch, and before any of its code
could run. `vocl.config.proof.classes` finds the class and those it inherits from; here they become types.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, Union

import annotated_types

from vocl.config.proof import classes
from vocl.config.proof.classes import Class, Packages
from vocl.errors import UserError

BOUNDS = ("Ge", "Gt", "Le", "Lt")
TYPES: dict[str, Any] = {
    **{kind.__name__: kind for kind in (int, float, bool, str, list, tuple, dict)},
    **{name: getattr(annotated_types, name) for name in BOUNDS},
    "Annotated": Annotated,
    "Literal": Literal,
    "Optional": Optional,
    "Union": Union,
    "Sequence": list,
    "Mapping": dict,
    "Any": Any,
}
# What is checked before anything is imported, so it must be readable: a value that is not is refused.
DECLARED = (
    *("needs", "provides", "optional", "requires", "excludes", "gives_context", "scored_masks"),
    *("min_frames", "output_frames", "divides_batch", "frames_per_token", "drops_tokens"),
    *("answers", "any_size", "scores", "one_frame_per_token"),
)


@dataclass(frozen=True)
class Kind:
    """The class that a part must be, or inherit from: a dotted path."""

    target: str

    @property
    def name(self) -> str:
        """Its last word."""
        return self.target.rpartition(".")[2]


class Part:
    """Marks a parameter whose value is a node with a `_target_` of its own; `Part[K]`: of kind K."""

    def __class_getitem__(cls, target: str) -> Any:
        return part_of(target)


def part_of(kind: str) -> Any:
    """What `Part[K]` means, of the kind K at the dotted path `kind`."""
    return Annotated[Part, Kind(kind)]


TYPES["Part"] = Part


@dataclass(frozen=True, eq=False)  # compared by identity: a changed file gives a new object
class Signature:
    """What a class is, its class attributes, and (`parameters`) what it takes. Never changed."""

    order: tuple[Class, ...]  # the class, and those that it inherits from in vocl or a project
    attributes: dict[str, Any]  # `needs`, `provides`, ...
    required: frozenset[str]  # class attributes that are declared without a value
    bases: frozenset[str]  # dotted paths of the class and all that it inherits from, as far as can be read
    methods: frozenset[str]
    abstract: bool  # a Protocol: a class is of its kind when it has all members
    plain: bool  # a frozen dataclass of keyword-only values

    @property
    def target(self) -> str:
        """Its dotted path."""
        return self.order[0].target

    @functools.cached_property
    def parameters(self) -> dict[str, Any]:
        """The type of each keyword-only parameter of the constructor, by name."""
        with _located(self.order[0]):
            return _parameters(self.order)


def read(target: str, packages: Mapping[str, Path]) -> Signature:
    """Signature of the class at the dotted path `target`, defined in one of `packages` (name -> folder).

    Raises `UserError` if it is no public class there, or cannot be read without importing it.
    """
    known = packages.known if isinstance(packages, Packages) else {}
    if target not in known:
        order = classes.resolution_order(target, packages)
        with _located(order[0]):
            known[target] = _signature(order)
    return known[target]


@contextmanager
def _located(part: Class) -> Iterator[None]:
    """Say which class a mistake is in."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{part.path}: {part.name}: {error}") from None


def misfit(found: Signature, kind: Kind | None, packages: Mapping[str, Path]) -> str | None:
    """Why a class may not stand where a part of `kind` belongs; None when it may.

    It must inherit from the kind; where the kind is a Protocol, having its members will do. Without
    a kind: any class of a project, and of vocl's own those that configs are for: modules, what
    inherits from a class of `vocl.interface`, and plain values.
    """
    if kind is None:
        ours = found.target.partition(".")[0] == "vocl"
        contract = any(base.startswith("vocl.interface.") for base in found.bases)
        fits = not ours or contract or found.plain or "torch.nn.Module" in found.bases
        return None if fits else "is not a part of a model or run (a module, or a class of vocl.interface)"
    if kind.target in found.bases:
        return None
    text = f"is not a {kind.name} (does not inherit from {kind.target}"
    if kind.target.partition(".")[0] in packages and (wanted := read(kind.target, packages)).abstract:
        methods = found.methods | ({"__call__"} if "torch.nn.Module" in found.bases else set())
        lacking = sorted(wanted.methods - methods) + sorted(wanted.required - found.attributes.keys())
        return f"{text}, and has no {', '.join(lacking)})" if lacking else None
    return f"{text})"


@functools.lru_cache(maxsize=1024)
def _signature(order: tuple[Class, ...]) -> Signature:
    """What the classes of a resolution order, the class itself first, amount to."""
    attributes: dict[str, Any] = {}
    for part in reversed(order):
        attributes |= _attributes(part.node, attributes)
    decorators = [ast.unparse(d) for d in order[0].node.decorator_list]
    return Signature(
        order=order,
        attributes=attributes,
        required=frozenset(name for part in order for name in _without_value(part.node)) - attributes.keys(),
        bases=frozenset({part.target for part in order} | {b for part in order for b in part.bases}),
        methods=frozenset(n.name for part in order for n in part.node.body if isinstance(n, ast.FunctionDef)),
        abstract="typing.Protocol" in order[0].bases,
        plain=any("frozen=True" in d and "kw_only=True" in d for d in decorators),
    )


def _parameters(order: Sequence[Class]) -> dict[str, Any]:
    """Keyword-only parameters of the constructor that a resolution order leads to.

    `**rest` takes those of the next constructor in the order, without what the call of
    `super().__init__` sets itself.
    """
    for i, part in enumerate(order):
        init = next(
            (n for n in part.node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None
        )
        if init is not None:
            own = {a.arg: _type(a.annotation, part.names) for a in init.args.kwonlyargs}
            rest = _parameters(order[i + 1 :]) if init.args.kwarg else {}
            fixed = _fixed(init) if init.args.kwarg else set()
            return {name: kind for name, kind in rest.items() if name not in fixed} | own
        if _is_dataclass(part.node):
            fields = [base for base in reversed(order[i:]) if _is_dataclass(base.node)]
            return {name: kind for base in fields for name, kind in _fields(base).items()}
    return {}


def _fixed(init: ast.FunctionDef) -> set[str]:
    """Keywords that a constructor passes to `super().__init__` by name."""
    calls = [node for node in ast.walk(init) if isinstance(node, ast.Call)]
    inits = [c for c in calls if isinstance(c.func, ast.Attribute) and c.func.attr == "__init__"]
    return {keyword.arg for call in inits for keyword in call.keywords if keyword.arg}


def _is_dataclass(node: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)


def _fields(part: Class) -> dict[str, Any]:
    return {
        name: _type(item.annotation, part.names)
        for name, item in _annotated(part.node)
        if "ClassVar" not in ast.unparse(item.annotation)
    }


def _type(annotation: ast.expr | None, names: Mapping[str, str]) -> Any:
    """The typing object of an annotation, evaluated in the closed vocabulary `TYPES`.

    `names`: dotted paths of what its module imports and defines, for the K of `Part[K]`.
    """
    if annotation is None:
        raise UserError("a keyword-only parameter has no annotation")
    kinds = {k: v for k, v in _kinds(annotation, names).items() if k not in TYPES}
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
    tree = ast.Expression(_KindsByName().visit(ast.parse(ast.unparse(annotation), mode="eval").body))
    ast.fix_missing_locations(tree)
    for node in ast.walk(tree):
        bound = isinstance(node, ast.Call) and ast.unparse(node.func) in BOUNDS
        known = not isinstance(node, ast.Name) or node.id in TYPES or node.id in kinds
        if not (known and (bound or isinstance(node, (*allowed, ast.UnaryOp, ast.USub)))):
            raise UserError(f"annotation {ast.unparse(annotation)}: choose from {', '.join(TYPES)}")
    return eval(compile(tree, "<annotation>", "eval"), {"__builtins__": {}}, TYPES | kinds)


def _kinds(annotation: ast.expr, names: Mapping[str, str]) -> dict[str, str]:
    """Dotted paths of the K in each `Part[K]`, by a name that stands for it in the annotation."""
    found = {}
    for node in ast.walk(annotation):
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "Part":
            spelt = ast.unparse(node.slice).strip("'\"")
            found[_alias(spelt)] = classes.dotted(spelt, names)
    return found


class _KindsByName(ast.NodeTransformer):
    """Replaces the K of each `Part[K]` by the name that stands for it."""

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        if ast.unparse(node.value) == "Part":
            alias = _alias(ast.unparse(node.slice).strip("'\""))
            return ast.Subscript(node.value, ast.Name(alias, ast.Load()), ast.Load())
        return self.generic_visit(node)


def _alias(spelt: str) -> str:
    return "kind_" + spelt.replace(".", "_")


def _attributes(node: ast.ClassDef, inherited: Mapping[str, Any]) -> dict[str, Any]:
    """Class attributes whose value can be read."""
    found: dict[str, Any] = {}
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and item.value is not None:
            name, value = item.target.id, item.value
        elif isinstance(item, ast.Assign) and isinstance(item.targets[0], ast.Name):
            name, value = item.targets[0].id, item.value
        else:
            continue
        try:
            found[name] = _value(value, inherited.get(name))
        except (ValueError, TypeError):
            if name in DECLARED:
                raise UserError(
                    f"{name} = {ast.unparse(value)}: cannot be read without importing it; write a literal, "
                    f'frozenset({{...}}), or Base.{name} | frozenset({{"more"}})'
                ) from None
    return found


def _without_value(node: ast.ClassDef) -> set[str]:
    items = [(name, item) for name, item in _annotated(node) if item.value is None]
    return {name for name, item in items if "ClassVar" in ast.unparse(item.annotation)}


def _annotated(node: ast.ClassDef) -> list[tuple[str, ast.AnnAssign]]:
    """The names in a class that have an annotation, with its statement."""
    items = (item for item in node.body if isinstance(item, ast.AnnAssign))
    return [(item.target.id, item) for item in items if isinstance(item.target, ast.Name)]


def _value(value: ast.expr, inherited: Any) -> Any:
    """A literal, a frozenset of literals, or one that adds to what the base class has."""
    if isinstance(value, ast.BinOp) and isinstance(value.op, ast.BitOr):
        return _value(value.left, inherited) | _value(value.right, inherited)
    if isinstance(value, ast.Attribute):
        if inherited is None:
            raise ValueError("no base class has it")
        return inherited
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "frozenset" and not value.keywords:
        return frozenset(_value(value.args[0], inherited)) if value.args else frozenset()
    if isinstance(value, ast.Set | ast.List | ast.Tuple):
        items: list[Any] = []
        for item in value.elts:
            items += (
                _value(item.value, inherited) if isinstance(item, ast.Starred) else [ast.literal_eval(item)]
            )
        return {ast.Set: set, ast.List: list, ast.Tuple: tuple}[type(value)](items)
    return ast.literal_eval(value)
