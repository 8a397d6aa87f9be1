"""Configs across versions: what an earlier one saved in today's keys, and today's as the first said it.

The rules are conf/migrations.yaml.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vocl.config.folders import CONF, packages
from vocl.config.proof import signature
from vocl.config.schema import EVALUATION_SETTINGS, TERM, Config
from vocl.errors import UserError

PLACES = {"runtime": CONF / "runtime" / "default.yaml", "cluster": CONF / "cluster" / "here.yaml"}
SLURM = CONF / "cluster" / "slurm.yaml"


def _migrations() -> Config:
    return _read_yaml(CONF / "migrations.yaml", (CONF / "migrations.yaml").stat().st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _read_yaml(path: Path, mtime_ns: int) -> Config:
    import yaml

    return yaml.safe_load(path.read_text())


def _rules() -> Config:
    """The rules of migrations.yaml; what is said of `dataset` also holds for an evaluation's own."""
    rules = _migrations()
    own = {f"eval.*.{key}": value for key, value in rules["added"].items() if key.startswith("dataset.")}
    moved = {
        f"eval.*.{old}": f"eval.*.{new}"
        for old, new in rules["renamed"].items()
        if old.startswith("dataset.") and new.startswith("dataset.")
    }
    return {**rules, "added": rules["added"] | own, "renamed": rules["renamed"] | moved}


def as_before(content: Config) -> Config:
    """Today's config as the first release would have said it: old names, without keys added since
    that still have the value that means "as before"."""
    rules = _rules()
    _rename_targets(content, {new: old for old, new in rules["targets"].items()})
    for old, new in rules["renamed"].items():
        _move(content, new, old)
    for path, before in rules["added"].items():
        for parent, key in _places(content, path):
            if key in parent and parent[key] == before:
                del parent[key]
    return content


def rename_targets(config: Config) -> None:
    """Give classes of modules that have moved their names of today, in place."""
    _rename_targets(config, _rules()["targets"])


def targets_as_before(config: Config) -> Config:
    """A copy of `config`, or of a part of it, with the names that classes had in the first release."""
    config = copy.deepcopy(config)
    _rename_targets(config, {new: old for old, new in _rules()["targets"].items()})
    return config


def _rename_targets(node: Any, modules: Mapping[str, str]) -> None:
    """Give every `_target_` in `node` whose module is in `modules` the other name of it, in place."""
    if isinstance(node, list):
        for child in node:
            _rename_targets(child, modules)
    if isinstance(node, dict):
        module, dot, name = str(node.get("_target_")).rpartition(".")
        if module in modules:
            node["_target_"] = f"{modules[module]}{dot}{name}"
        for child in node.values():
            _rename_targets(child, modules)


def migrate(config: Config) -> Config:
    """A config that an earlier version saved, in today's keys: renamed, and completed as before.

    What is not part of a run's identity has the keys of today, with the saved values where they exist.
    """
    config, rules = copy.deepcopy(config), _rules()
    _rename_targets(config, rules["targets"])
    for old, new in rules["renamed"].items():
        _move(config, old, new)
    for path, before in rules["added"].items():
        for parent, key in _places(config, path):
            if _takes(parent, key, config.get("project")):
                parent.setdefault(key, copy.deepcopy(before))
    for section in PLACES:
        if isinstance(saved := config.get(section), Mapping):
            config[section] = section_of_today(section, saved)
    return config


def section_of_today(name: str, saved: Mapping[str, Any]) -> Config:
    """A section of `PLACES` with the keys of today; those that SLURM alone reads where it is SLURM's."""
    file = SLURM if name == "cluster" and saved.get("kind") == "slurm" else PLACES[name]
    today = _read_yaml(file, file.stat().st_mtime_ns)
    return today | {key: value for key, value in saved.items() if key in today}


def _takes(node: Config, key: str, project: str | None) -> bool:
    """Whether the part that `node` describes has a parameter `key`, of its own or as every term and
    evaluation has; a section of plain values has."""
    if "_target_" not in node or key in (*TERM, *EVALUATION_SETTINGS):
        return True
    try:
        return key in signature.read(node["_target_"], packages(project)).parameters
    except UserError:  # a target that is not there: `check` says so
        return False


def _move(config: Config, source: str, target: str) -> None:
    for parent, key in _places(config, source):
        if key in parent:
            for place, name in _places(config, target):
                place[name] = parent.pop(key)


def _places(config: Config, path: str) -> list[tuple[Config, str]]:
    """The mappings that have, or could have, the last key of a dotted path; * stands for any key."""
    *parents, last = path.split(".")
    nodes: list[Any] = [config]
    for key in parents:
        found = (node for node in nodes if isinstance(node, Mapping))
        nodes = [child for node in found for child in (node.values() if key == "*" else [node.get(key)])]
    return [(node, last) for node in nodes if isinstance(node, dict)]
