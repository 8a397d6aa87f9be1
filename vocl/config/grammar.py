"""Text in the grammar of Hydra's overrides, and back; Hydra itself is imported for a hint alone."""

from __future__ import annotations

import re
import shlex

PLAIN = re.compile(r"/[A-Za-z0-9_./-]+")  # a path that reads the same without quotes


def key_of(override: str) -> str:
    """The key of an override, without the signs that add, force or remove it."""
    return override.partition("=")[0].lstrip("+~")


def setting(key: str, text: object) -> str:
    """The override that sets `key` to `text` (a path, say), whatever signs that has."""
    value = str(text)
    return f"{key}={value if PLAIN.fullmatch(value) else literal(value)}"


def literal(text: str) -> str:
    """`text` in quotes: backslashes count only before a quote or the end, and are doubled there."""
    return '"' + re.sub(r'(\\*)("|$)', lambda m: m[1] * 2 + m[2].replace('"', '\\"'), text) + '"'


def text_of(value: str) -> str:
    """What the value of an override says, in quotes or bare."""
    mark = value[:1]
    if len(value) < 2 or mark not in ("'", '"') or value[-1] != mark:
        return value
    inner = re.sub(r"(\\+)$", lambda found: found[0][: len(found[0]) // 2], value[1:-1])
    return re.sub(rf"(\\+){mark}", lambda found: "\\" * ((len(found[0]) - 2) // 2) + mark, inner)


def quoted(override: str) -> str:
    """`override` with its value in quotes where letters beyond ASCII, which Hydra refuses bare, need them."""
    key, sign, value = override.partition("=")
    return override if value.isascii() or value[:1] in "'\"[{" else f"{key}{sign}{literal(value)}"


def quoting_hint(override: str) -> str:
    """How to write, in a shell, an override whose value Hydra's grammar refuses; "" if quotes do not help."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    key, sign, value = override.partition("=")
    better = f"{key}{sign}{literal(value)}"
    try:
        OverridesParser.create().parse_overrides([better])
    except HydraException:
        return ""
    return f"; as text: {shlex.quote(better)}"
