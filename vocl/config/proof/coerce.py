"""Values of a config as the types that constructors declare; imports nothing that it names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types

from vocl.config.proof import signature
from vocl.errors import UnknownKey, UserError


def coerce(value: Any, kind: Any, path: str, allowed: dict[str, Path]) -> Any:
    """`value` as type `kind`, or `UserError` naming `path` and what is expected."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return _without_parts(value, path)
    if kind is signature.Part:
        return _part(value, path, allowed, None)
    if origin is Annotated and isinstance(arguments[1], signature.Kind):
        return _part(value, path, allowed, arguments[1])
    if origin is Annotated:
        return _in_range(coerce(value, arguments[0], path, allowed), arguments[1:], path)
    if origin in (Union, UnionType):
        return _union(value, arguments, path, allowed)
    if origin is Literal:
        if value not in arguments or isinstance(value, bool) != any(
            value is a for a in arguments if isinstance(a, bool)
        ):
            raise UserError(f"{path}={value}: choose from {', '.join(map(str, arguments))}")
        return value
    if origin in (list, tuple):
        if not isinstance(value, list | tuple):
            raise UserError(f"{path}={value}: expected a list")
        return [coerce(item, arguments[0], f"{path}[{i}]", allowed) for i, item in enumerate(value)]
    if origin is dict:
        return {
            key: coerce(item, arguments[1], f"{path}.{key}", allowed) for key, item in mapping(value, path)
        }
    return _scalar(value, kind, path)


def _scalar(value: Any, kind: type, path: str) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
    if kind is float and number:
        return float(value) + 0.0  # -0.0 is 0.0: one run
    if kind is int and number and value == int(value):
        return int(value)
    if kind in (bool, str) and isinstance(value, kind):
        return value
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}
    raise UserError(f"{path}={value}: expected {words.get(kind, kind)}")


def _union(value: Any, kinds: tuple[Any, ...], path: str, allowed: dict[str, Path]) -> Any:
    if value is None and type(None) in kinds:
        return None
    errors = []
    for kind in (k for k in kinds if k is not type(None)):
        try:
            return coerce(value, kind, path, allowed)
        except UserError as error:
            errors.append(str(error))
    # what is wrong further down is not mended by null there
    null = type(None) in kinds and not any(error.startswith(f"{path}.") for error in errors)
    raise UserError(f"{' or '.join(errors)}{' or null' if null else ''}")


def _in_range(value: Any, bounds: tuple[Any, ...], path: str) -> Any:
    for bound in bounds:
        for kind, sign, holds in (
            (annotated_types.Ge, ">=", lambda a, b: a >= b),
            (annotated_types.Gt, ">", lambda a, b: a > b),
            (annotated_types.Le, "<=", lambda a, b: a <= b),
            (annotated_types.Lt, "<", lambda a, b: a < b),
        ):
            if isinstance(bound, kind):
                limit = getattr(bound, kind.__name__.lower())
                if not holds(value, limit):
                    raise UserError(f"{path}={value}: out of range, choose a value {sign} {limit}")
    return value


def _part(node: Any, path: str, allowed: dict[str, Path], kind: signature.Kind | None) -> dict[str, Any]:
    target = node.get("_target_") if isinstance(node, Mapping) else None
    if not isinstance(target, str):
        raise UserError(f"{path}: expected a mapping with a _target_")
    if target.split(".")[0] not in allowed:
        raise UserError(
            f"{path}._target_={target}: outside the allowed packages, choose from {', '.join(allowed)}"
        )
    try:
        found = signature.read(target, allowed)
    except UserError as error:
        raise UserError(f"{path}.{error}") from None
    if (reason := signature.misfit(found, kind, allowed)) is not None:
        raise UserError(f"{path}._target_={target}: {reason}")
    try:
        parameters = found.parameters
    except UserError as error:
        raise UserError(f"{path}._target_={target}: {error}") from None
    values = {key: value for key, value in node.items() if key != "_target_"}
    same_keys(values, tuple(parameters), path)
    coerced = {k: coerce(values[k], kind, f"{path}.{k}", allowed) for k, kind in parameters.items()}
    return {"_target_": target, **coerced}


def _without_parts(value: Any, path: str) -> Any:
    """`value`, unless it holds a part: of no kind, nobody could say what may be called there."""
    if isinstance(value, Mapping):
        if "_target_" in value:
            raise UserError(f"{path}._target_={value['_target_']}: no part belongs here")
        return {key: _without_parts(item, f"{path}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_parts(item, f"{path}[{i}]") for i, item in enumerate(value)]
    return value + 0.0 if isinstance(value, float) else value  # -0.0 is 0.0: one run


def same_keys(values: Mapping[str, Any], expected: tuple[str, ...], path: str) -> None:
    """Refuse keys that are unknown or missing."""
    dot = f"{path}." if path else ""
    for key in values:
        if key not in expected:
            raise UnknownKey(f"{dot}{key}", expected)
    for key in expected:
        if key not in values:
            raise UserError(f"{dot}{key}: missing")


def mapping(values: Any, path: str) -> Any:
    """The items of a mapping; refuses anything else."""
    if not isinstance(values, Mapping):
        raise UserError(f"{path}={values}: expected a mapping")
    return values.items()
