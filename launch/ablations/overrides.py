"""Values of a YAML file as overrides in Hydra's grammar, and the reading of such a file."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vocl.config.grammar import literal
from vocl.config.safe_yaml import NOTHING, read_yaml
from vocl.errors import UserError, brief

BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
WORDS = ("null", "true", "false", "nan", "inf")  # Hydra would read them as values, not as text

SLUG_BYTES = 180  # with a digest, and what a temporary file adds, still below the 255 of a name
Overrides = dict[str, str]  # key as on Hydra's command line -> value in Hydra's grammar


def flatten(node: Mapping[str, Any], path: str = "") -> Overrides:
    """Overrides of a mapping: {train: {steps: 5}} says the same as {train.steps: 5}."""
    out: Overrides = {}
    for key, value in node.items():
        below = f"{path}.{key}" if path else str(key)
        if isinstance(value, Mapping) and value:
            out |= flatten(value, below)
        else:
            out[below] = in_grammar(value)
    return out


def in_grammar(value: Any) -> str:
    """`value` in the grammar of Hydra's overrides."""
    if isinstance(value, str):
        if BARE.fullmatch(value) and value.lower() not in WORDS:
            return value
        return literal(value)
    if isinstance(value, list | tuple):
        return f"[{','.join(map(in_grammar, value))}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{in_grammar(item)}' for key, item in value.items())}}}"
    if isinstance(value, bool | int | float | None):
        return json.dumps(value)
    return in_grammar(str(value))  # a date, say


def shown(value: Any) -> str:
    """`value` as part of a label."""
    if isinstance(value, list | tuple):
        numbers = all(isinstance(item, int | float) for item in value)
        return ("x" if numbers else "+").join(map(shown, value)) or "none"
    return value if isinstance(value, str) else in_grammar(value)


def slug(text: str) -> str:
    """`text` as the name of a folder: its letters and digits, of any script, cut to a length that every
    file system takes. Where that loses more than signs of ASCII, a digest tells it from others."""
    text = unicodedata.normalize("NFC", re.sub(r"=-(?=[0-9.])", "=minus-", text.lower()))
    letters = [c if c in "." or unicodedata.category(c)[0] in "LNM" else "-" for c in text]
    whole = re.sub("-+", "-", "".join(letters)).strip("-.")
    kept = whole.encode()[:SLUG_BYTES].decode(errors="ignore").strip("-.")
    is_lossy = any(new != old and not old.isascii() for new, old in zip(letters, text, strict=True))
    if kept == whole and not is_lossy and (whole or not text):
        return whole or "unnamed"
    digest = hashlib.blake2s(text.encode(errors="surrogatepass"), digest_size=4).hexdigest()
    return f"{kept or 'unnamed'}-{digest}"


def mapping(value: Any, where: str) -> Mapping[str, Any]:
    """`value`, a mapping or nothing; `where` names it in the error."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise UserError(f"{where}: expected a mapping, not {brief(repr(value))}")
    return value


def known_keys(values: Mapping[str, Any], known: tuple[str, ...], where: Any) -> None:
    """Refuse keys of `values` that are not among `known`."""
    for key in values:
        if key not in known:
            raise UserError(f"{where}: {key}: unknown key, choose from {', '.join(known)}")


def read_mapping(path: Path, names: re.Pattern[str] = NOTHING) -> dict[str, Any]:
    """The mapping in a YAML file; see `read_yaml`."""
    return dict(mapping(read_yaml(path, names), str(path)))
