"""Many lists of overrides to configs: those that differ only in values share one composition by Hydra.

Hydra first lets group choices select files, then sets values one by one, then resolves
interpolations. The first part takes a hundred times longer than the rest and is kept per set of
choices; the rest is done per list, by Hydra's own functions, on a copy.
"""

from __future__ import annotations

import copy
import functools
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any, Literal

from vocl.config.changing import refuse_changing
from vocl.config.compose import compose, finished, project_of, unresolved
from vocl.config.folders import conf_folders
from vocl.config.grammar import quoted
from vocl.config.schema import Config
from vocl.errors import UserError

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig

logger = logging.getLogger(__name__)
KEY = re.compile(r"(\w+)(\.\w+)*", re.ASCII)
SPECIAL = ("hydra", "defaults", "project")  # keys that say how to compose


class Composer:
    """`compose` for many lists: equal to `vocl.config.compose.compose` in every result and every error."""

    def __init__(self) -> None:
        self._bases: dict[tuple[str, ...], _Base] = {}
        self._has_warned = False

    def compose(self, overrides: Iterable[str]) -> Config:
        """The resolved config of `overrides` as plain data, not yet checked."""
        overrides = [quoted(override) for override in overrides]
        trouble: Exception | None = None
        try:
            config = self._shared(overrides)
        except Exception as error:  # a mistake fails in Hydra's own composition too, which says it right
            config, trouble = None, error
        if config is None:
            config = compose(overrides)
            if trouble is not None:
                self._warn(trouble)
        return config

    def _warn(self, trouble: Exception) -> None:
        """Say once that Hydra's private functions are not what they were: everything works, but slowly."""
        if not self._has_warned:
            logger.warning(
                "each config is composed by itself, which takes long: "
                "vocl.config.compose_many does not fit hydra-core %s: %s: %s",
                *(metadata.version("hydra-core"), type(trouble).__name__, trouble),
            )
        self._has_warned = True

    def _shared(self, overrides: list[str]) -> Config | None:
        """None where values and choices cannot be told apart with certainty."""
        project = project_of(overrides)
        kinds = [_kind(override, project) for override in overrides]
        if None in kinds or sum(o.startswith("project=") for o in overrides) > 1:
            return None
        choices = tuple(o for o, kind in zip(overrides, kinds, strict=True) if kind == "choice")
        values = [o for o, kind in zip(overrides, kinds, strict=True) if kind == "value"]
        if choices not in self._bases:
            self._bases[choices] = _Base.of(list(choices))
        base = self._bases[choices]
        if base.asks_hydra:
            return None
        refuse = base.changing or any("${" in value for value in values)
        return finished(base.with_values([_parsed(value) for value in values]), overrides, refuse)


@dataclass(frozen=True)
class _Base:
    """The composition of a set of choices, never changed."""

    composed: DictConfig
    plain: dict[str, Any]  # path and a dot -> node that interpolates nothing: copies of the base may share it
    changing: bool  # something in it may not be part of a run's identity
    asks_hydra: bool  # it interpolates Hydra's own settings, which record every override

    @classmethod
    def of(cls, choices: list[str]) -> _Base:
        from omegaconf import OmegaConf

        composed = unresolved(choices)
        content: Any = OmegaConf.to_container(composed, resolve=False)
        try:
            refuse_changing(content)
        except UserError:
            changing = True
        else:
            changing = False
        return cls(composed, dict(_plain_nodes(composed, content, "")), changing, "hydra" in str(content))

    def with_values(self, values: Sequence[Override]) -> DictConfig:
        """A copy with `values` set in their order."""
        from hydra._internal.config_loader_impl import ConfigLoaderImpl

        keys = [f"{value.key_or_group}." for value in values]
        shared = {
            id(node): node
            for path, node in self.plain.items()
            if not any(path.startswith(key) or key.startswith(path) for key in keys)
        }
        composed = copy.deepcopy(self.composed, shared)  # a memo: what stands in it is not copied
        ConfigLoaderImpl._apply_overrides_to_config(list(values), composed)
        return composed


def _plain_nodes(node: Any, content: dict[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    """Nodes below `node`, by their path and a dot."""
    for key, child in node.items_ex(resolve=False):
        below = f"{path}{key}."
        if "${" not in str(content[key]):
            yield below, child
        if isinstance(content[key], dict):
            yield from _plain_nodes(child, content[key], below)


@functools.lru_cache(maxsize=4096)
def _parsed(override: str) -> Override:
    return _parser().parse_override(override)


@functools.cache
def _parser() -> Any:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create()


@functools.lru_cache(maxsize=4096)
def _kind(override: str, project: str | None) -> Literal["choice", "value"] | None:
    """Whether an override selects files or sets a value after that; None: neither for certain."""
    parsed = _parsed(override)
    key, is_dict = parsed.key_or_group, isinstance(parsed.value(), dict)
    if parsed.is_sweep_override() or key.split(".")[0] in SPECIAL or "hydra" in override:
        return "choice" if override.startswith("project=") else None
    if any((folder / key).is_dir() for folder in conf_folders(project)):
        return None if is_dict else "choice"
    removes_section = parsed.is_delete() and "." not in key
    return "value" if KEY.fullmatch(key) and not parsed.package and not removes_section else None
