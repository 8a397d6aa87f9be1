"""The protocol that a command line names: protocol=NAME, and protocol.KEY=VALUE to change it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vocl.config.compose import project_of
from vocl.config.folders import packages
from vocl.config.grammar import text_of
from vocl.config.proof import signature
from vocl.config.proof.coerce import coerce
from vocl.errors import UserError, near
from vocl.evaluate.masks.named_protocol import choices, protocol

KIND = signature.part_of("vocl.evaluate.protocol.Protocol")
NAME, SETTING = "protocol=", "protocol."


def chosen(words: Sequence[str], project: str | None) -> dict[str, Any]:
    """The checked settings of the protocol that `words` name, with its `_target_`. UserError."""
    names = [text_of(word.removeprefix(NAME)) for word in words if word.startswith(NAME)]
    known = choices(project)
    if not names:
        raise UserError(f"protocol: missing, give protocol=NAME of {', '.join(known)}")
    if names[-1] not in known:
        raise UserError(f"protocol={names[-1]}: choose from {', '.join(known)}{near(names[-1], known)}")
    settings = [word.removeprefix(SETTING) for word in words if word.startswith(SETTING)]
    node = protocol(names[-1], project, settings)
    checked: dict[str, Any] = coerce(node, KIND, "protocol", packages(project))
    return checked


def others(words: Sequence[str]) -> list[str]:
    """The words that say nothing of a protocol."""
    return [word for word in words if not word.startswith((NAME, SETTING))]


def project(words: Sequence[str]) -> str | None:
    """The project that `words` name."""
    return project_of(list(words))
