"""Text as values of the overrides that Hydra's grammar takes, and back."""

from __future__ import annotations

import re
import shlex


def quoted(override: str) -> str:
    """`override` with its value in quotes where letters beyond ASCII, which Hydra refuses bare, need them."""
    key, sign, value = override.partition("=")
    return override if value.isascii() or value[:1] in "'\"[{" else f"{key}{sign}{in_quotes(value)}"


def in_quotes(text: str) -> str:
    """`text` as a quoted value of Hydra's grammar."""
    return '"' + re.sub(r'(\\*)("|$)', lambda m: m[1] * 2 + m[2].replace('"', '\\"'), text) + '"'


def unquoted(value: str) -> str:
    """`value`, without the quotes that Hydra's grammar would take away."""
    if len(value) < 2 or value[0] != value[-1] or value[0] not in "'\"":
        return value
    return re.sub(rf"(\\*)\1\\?({value[0]}|$)", r"\1\2", value[1:-1])


def quoting_hint(override: str) -> str:
    """How to write, in a shell, an override whose value Hydra's grammar refuses; "" if quotes do not help."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    key, sign, value = override.partition("=")
    better = f"{key}{sign}{in_quotes(value)}"
    try:
        OverridesParser.create().parse_overrides([better])
    except HydraException:
        return ""
    return f"; as text: {shlex.quote(better)}"
