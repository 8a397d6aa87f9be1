"""Keeping secrets out of configs, and so out of records, snapshots and job scripts. Imports no torch."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from vocl.errors import UserError

NAMES = ("KEY", "TOKEN", "SECRET", "PASSWORD")
MIN_LENGTH = 8  # shorter values (TOKENIZERS_PARALLELISM=false) are words that may stand anywhere


def refuse_secrets(config: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> None:
    """Raise `UserError` where a value of `config` is, or has as a word in it, the value of an
    environment variable named like a secret. The message has the key, not the value."""
    secrets = {
        name: value
        for name, value in environment.items()
        if len(value) >= MIN_LENGTH and any(word in name.upper() for word in NAMES)
    }
    if not secrets:
        return
    # A word, so that a variable that holds a folder does not forbid the paths below it.
    either = "|".join(sorted(map(re.escape, secrets.values()), key=len, reverse=True))
    pattern = re.compile(rf"(?<![\w.-])(?:{either})(?![\w/.-])")
    for path, text in _texts(config, ""):
        found = pattern.search(text)
        if found:
            name = next(name for name, value in secrets.items() if value == found.group())
            raise UserError(
                f"{path}: holds the value of the environment variable {name}; secrets stay out of configs: "
                "leave it in the environment or in ~/.netrc"
            )


def _texts(node: Any, path: str) -> Iterator[tuple[str, str]]:
    """(path, text) of every value and every key below `node`."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield path or "a key of the config", str(key)
            yield from _texts(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from _texts(value, f"{path}[{index}]")
    elif node is not None and not isinstance(node, bool):
        yield path, str(node)
