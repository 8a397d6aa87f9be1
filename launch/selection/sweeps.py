"""What one override says of several runs: comma lists and the other sweeps of Hydra's grammar, and zips.

    slots_and_rate=zip(model.num_slots=[4,7],optim.lr=choice(1e-3,4e-4))     first with first, ...

The form of a zip is that of Hydra's own proposal (docs/design/zipped_sweeps.md there): a name of its own for
the dimension, and members that are lists or finite sweeps of one length.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from vocl.config.compose import group_choices, project_of
from vocl.config.grammar import quoting_hint
from vocl.config.schema import ROOT
from vocl.errors import UserError, brief

ZIP = re.compile(r"([^=]*)=\s*zip\((.*)\)\s*", re.DOTALL)
NAME = re.compile(r"[A-Za-z_]\w*")
OPENING, CLOSING, QUOTES = "([{", ")]}", "'\""


def values(override: str, project: str | None) -> list[str]:
    """The values of a comma list, or the one value."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import Glob
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create().parse_override(override)
        if not parsed.is_sweep_override():
            return [override.partition("=")[2]]
        value = parsed.value()
        if isinstance(value, Glob):
            return value.filter(group_choices(parsed.key_or_group, project))
        return list(parsed.sweep_string_iterator())
    except HydraException as error:
        said = str(error).splitlines()[0]
        raise UserError(f"{override}: not an override (key=value): {said}{quoting_hint(override)}") from None
    except RecursionError:
        raise UserError(f"{brief(override)}: nested too deeply") from None


def is_zip(override: str) -> bool:
    """Whether an override is a zip: a dimension of several keys."""
    return ZIP.fullmatch(override) is not None


def zipped(override: str, others: list[str]) -> list[tuple[str, ...]]:
    """The overrides of each step of a zip. `others`: all overrides beside it. Raises `UserError`."""
    found = ZIP.fullmatch(override)
    assert found is not None, override
    name, project = found[1].strip(), project_of(others)
    if not NAME.fullmatch(name):
        raise UserError(f"{name}=zip(...): the word before = names the dimension, as in pairs=zip(...)")
    if name in ROOT or group_choices(name, project):
        raise UserError(f"{name}=zip(...): the config has {name} already; give the dimension another name")
    members = [_member(name, text, project) for text in _split(found[2])]
    keys = [key for key, _ in members]
    if len(members) < 2:
        raise UserError(f"{name}=zip(...): takes two members or more, as in zip(a=[1,2],b=[3,4])")
    taken = {*(o.partition("=")[0] for o in others), *(k for o in others for k in _keys_of_zip(o))}
    for key in keys:
        if keys.count(key) > 1 or key in taken:
            raise UserError(f"{name}=zip(...): {key}: set twice")
    if len({len(each) for _, each in members}) > 1:
        lengths = ", ".join(f"{key} has {len(each)}" for key, each in members)
        raise UserError(f"{name}=zip(...): lists of one length belong together: {lengths}")
    steps = zip(*(each for _, each in members), strict=True)
    return [tuple(f"{k}={v}" for k, v in zip(keys, step, strict=True)) for step in steps]


def _keys_of_zip(override: str) -> list[str]:
    found = ZIP.fullmatch(override)
    return [text.partition("=")[0].strip() for text in _split(found[2])] if found else []


def _member(name: str, text: str, project: str | None) -> tuple[str, list[str]]:
    """A member's key and its values: `key=[a,b]`, or a finite sweep such as `key=choice(a,b)`."""
    key, sign, value = (part.strip() for part in text.partition("="))
    if not key or not sign:
        raise UserError(f"{name}=zip(...): {text.strip() or 'nothing'}: expected key=[value,value]")
    if value.startswith("shuffle("):
        raise UserError(f"{name}=zip(...): {key}: shuffling one member would part what belongs together")
    if value[:1] == "[" and value[-1:] == "]":
        items = [item.strip() for item in _split(value[1:-1])]
        if items in ([], [""]):
            raise UserError(f"{name}=zip(...): {key}: empty")
        return key, items
    return key, values(f"{key}={value}", project)


def _split(text: str) -> list[str]:
    """`text` at its commas that no bracket and no quotes hold together."""
    return list(_parts(text)) if text.strip() else []


def _parts(text: str) -> Iterator[str]:
    depth, quote, begin = 0, "", 0
    for at, sign in enumerate(text):
        if quote:
            quote = "" if sign == quote and text[at - 1] != "\\" else quote
        elif sign in QUOTES:
            quote = sign
        elif sign in OPENING or sign in CLOSING:
            depth += 1 if sign in OPENING else -1
        elif sign == "," and depth == 0:
            yield text[begin:at]
            begin = at + 1
    yield text[begin:]
