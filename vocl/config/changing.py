"""What may not take part in a run's identity: places, times, the environment."""

from __future__ import annotations

import re
from typing import Any

from vocl.config.schema import HASHED
from vocl.errors import UserError

# An interpolation: the dots that lead up from its node, a key or the name of a resolver, its argument.
REFERENCE = re.compile(r"\$\{\s*(\.*)\[?\s*([^\s:\[\]{}$]*)\s*(?::\s*\.*(\w*))?")
CHANGING = re.compile(r"(runtime|cluster|project|eval|hydra|now|random)\b|oc\.(env|select)\b")
OF_A_KEY = re.compile(r"oc\.(dict|deprecated)\b")  # resolvers whose argument is a key


def refuse_changing(node: Any, path: tuple[str | int, ...] = ()) -> None:
    """Nothing that identifies a run may interpolate from a place, a time or the environment.

    `node`: a config before it is resolved, or what stands at `path` in it.
    """
    if isinstance(node, dict):
        for key, value in node.items():
            if path or key in HASHED:
                refuse_changing(value, (*path, key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            refuse_changing(value, (*path, index))
    elif isinstance(node, str) and _refers_to_changing(node, path):
        raise UserError(
            f"{_dotted(path)}={node}: is part of the run id, so it may not depend on "
            "runtime, cluster, time or environment"
        )


def _refers_to_changing(text: str, path: tuple[str | int, ...]) -> bool:
    found = REFERENCE.findall(text)
    return any(_is_changing(dots, key, argument, path) for dots, key, argument in found)


def _is_changing(dots: str, key: str, argument: str, path: tuple[str | int, ...]) -> bool:
    """Whether an interpolation at `path` means what does not identify a run, or cannot be told to mean
    something else: `..name` is looked for two levels up, and `${x}.name` is where x says."""
    if dots and path[: -len(dots)]:
        return False
    return not key or bool(CHANGING.match(argument if OF_A_KEY.match(key) else key))


def _dotted(path: tuple[str | int, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")
