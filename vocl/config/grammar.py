"""Text in the grammar of Hydra's overrides, and back; Hydra itself is imported for a hint alone."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

SIGNS = ("+", "~")  # with which an override begins that adds or removes
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


def quoting_hint(override: str, condition: str = "") -> str:
    """How to write, in a shell, an override whose value is to be text; "" if quotes do not help.

    Of a list it is the items that are text.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    key, sign, value = override.partition("=")
    if not sign:
        return ""
    items = [item if item[:1] in ("'", '"') else literal(item.strip()) for item in value[1:-1].split(",")]
    is_list = value[:1] == "[" and value[-1:] == "]"
    better = f"{key}=[{','.join(items)}]" if is_list else f"{key}={literal(value)}"
    try:
        OverridesParser.create().parse_overrides([better])
    except HydraException:
        return ""
    return f"; {condition}write {shlex.quote(better)}"


def joined(words: Sequence[str]) -> str:
    """The override that a shell took apart at its spaces: the first whose brackets close in a later word;
    "" without one. In a list what stands between spaces was meant to be apart."""
    for at, word in enumerate(words):
        key, sign, value = word.partition("=")
        if sign and value[:1] in ("[", "{") and _open(value) > 0:
            for end in range(at + 2, len(words) + 1):
                if _open(" ".join(words[at:end])) == 0:
                    parts = [part.strip(",") for part in (value, *words[at + 1 : end])]
                    return f"{key}={','.join(part for part in parts if part)}"
    return ""


def _open(text: str) -> int:
    """How many brackets of `text` are not closed."""
    return sum(text.count(sign) for sign in "[{") - sum(text.count(sign) for sign in "]}")
