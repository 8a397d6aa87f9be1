"""The protocol that a command line names: protocol=NAME, and protocol.KEY=VALUE to change it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vocl.config.compose import finished_alone, group_choices, project_of
from vocl.config.folders import packages
from vocl.config.grammar import setting, text_of
from vocl.config.proof import signature
from vocl.config.proof.coerce import coerce
from vocl.errors import UserError, near

GROUP = "eval/protocol"
KIND = signature.part_of("vocl.evaluate.protocol.Protocol")
NAME, SETTING = "protocol=", "protocol."


def chosen(words: Sequence[str], project: str | None) -> dict[str, Any]:
    """The checked settings of the protocol that `words` name, with its `_target_`. UserError."""
    names = [text_of(word.removeprefix(NAME)) for word in words if word.startswith(NAME)]
    choices = group_choices(GROUP, project)
    if not names:
        raise UserError(f"protocol: missing, give protocol=NAME of {', '.join(choices)}")
    if names[-1] not in choices:
        raise UserError(f"protocol={names[-1]}: choose from {', '.join(choices)}{near(names[-1], choices)}")
    settings = [f"eval.{word}" for word in words if word.startswith(SETTING)]
    own = [setting("project", project)] if project else []
    node = finished_alone(f"{GROUP}/{names[-1]}", [*own, *settings])["eval"]["protocol"]
    checked: dict[str, Any] = coerce(node, KIND, "protocol", packages(project))
    return checked


def others(words: Sequence[str]) -> list[str]:
    """The words that say nothing of a protocol."""
    return [word for word in words if not word.startswith((NAME, SETTING))]


def project(words: Sequence[str]) -> str | None:
    """The project that `words` name."""
    return project_of(list(words))
