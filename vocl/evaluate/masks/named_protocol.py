"""A scoring protocol by its name, as conf/eval/protocol and the folder of a project have it."""

from __future__ import annotations

from collections.abc import Sequence

from vocl.config.compose import compose, group_choices
from vocl.config.grammar import setting
from vocl.config.schema import Config

GROUP = "eval/protocol"
PLACE = "eval.discovery.protocol"  # where it is composed


def choices(project: str | None) -> list[str]:
    """The names of all protocols."""
    return list(group_choices(GROUP, project))


def protocol(name: str, project: str | None, settings: Sequence[str] = ()) -> Config:
    """The settings of the protocol `name`, changed by `settings` (key=value each), with its `_target_`."""
    own = [setting("project", project)] if project else []
    changed = [f"{PLACE}.{each}" for each in settings]
    node = compose([*own, "eval=[discovery]", f"{GROUP}@{PLACE}={name}", *changed])
    found: Config = node["eval"]["discovery"]["protocol"]
    return found
