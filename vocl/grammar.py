"""Text in the grammar of Hydra's overrides, and back; imports no Hydra, for boards that answer at once."""

from __future__ import annotations

import re

PLAIN = re.compile(r"/[A-Za-z0-9_./-]+")  # a path that reads the same without quotes


def setting(key: str, text: object) -> str:
    """The override that sets `key` to `text` (a path, say), whatever signs that has."""
    value = str(text)
    return f"{key}={value if PLAIN.fullmatch(value) else literal(value)}"


def literal(text: str) -> str:
    """`text` in quotes: backslashes count only before a quote or the end, and are doubled there."""
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", text)
    return "'" + re.sub(r"(\\+)$", r"\1\1", escaped) + "'"


def text_of(value: str) -> str:
    """What the value of an override says, in quotes or bare."""
    mark = value[:1]
    if len(value) < 2 or mark not in ("'", '"') or value[-1] != mark:
        return value
    inner = re.sub(r"(\\+)$", lambda found: found[0][: len(found[0]) // 2], value[1:-1])
    return re.sub(rf"(\\+){mark}", lambda found: "\\" * ((len(found[0]) - 2) // 2) + mark, inner)
