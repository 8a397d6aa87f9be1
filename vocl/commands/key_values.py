"""Words `key=value` of the verbs that compose no config. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import yaml

from vocl.config.folders import CONF
from vocl.config.grammar import text_of
from vocl.errors import UnknownKey, UserError

PREDICT = {  # what may be set, and what it is when it is not; ... must be set
    "video": ...,
    "checkpoint": ...,
    "out": None,
    "write": None,
    "fps": None,
    "max_frames": None,
    "fit": None,
    "runtime.root": "root",
    "runtime.device": "device",
}
_ITEM = r""" *"(?:\\.|[^"\\])*" *| *'(?:\\.|[^'\\])*' *|[^,]+"""
SHOW = {
    "out": None,
    "video": None,
    "runtime.root": "root",
    "runtime.data_root": None,
    "runtime.device": "device",
}
PREVIEW = {"out": "preview.png", "split": None, "videos": "4"}

SCORE = {"out": None, "binary": None, "tracking": None, "project": None}
RESCORE = {
    "eval": None,
    "runtime.root": "root",
    "runtime.data_root": None,
    "runtime.threads": "threads",
}


def items_of(text: str) -> list[str]:
    """The items of a list `[a,"b, c"]`; of any other text that text alone."""
    if text[:1] != "[" or text[-1:] != "]":
        return [text]
    found = (item.strip() for item in re.findall(_ITEM, text[1:-1]))
    return [text_of(item) for item in found if item]


def key_values(arguments: Sequence[str], keys: dict[str, Any]) -> dict[str, Any]:
    """`arguments` (key=value each, as Hydra quotes them) over the defaults `keys`; empty and null values are
    the default.

    A default of `...` must be set; one of a `runtime.` key names the value in the config.
    """
    given = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or key not in keys:
            raise UnknownKey(key, tuple(keys))
        given[key] = text_of(value) if value not in ("", "null") else keys[key]
    lacking = [k for k, default in keys.items() if default is ... and given.get(k, ...) is ...]
    if lacking:
        raise UserError(f"{lacking[0]}: missing, give {' '.join(f'{k}=...' for k in lacking)}")
    runtime = yaml.safe_load((CONF / "runtime" / "default.yaml").read_text())
    defaults = {k: runtime[d] if k.startswith("runtime.") and d is not None else d for k, d in keys.items()}
    return defaults | {k: v for k, v in given.items() if v != keys[k]}
