"""A declared table: rows x columns x seeds of Hydra overrides, read from conf/ablation/NAME.yaml."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from vocl.config import CONF
from vocl.errors import UserError

BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
WORDS = ("null", "true", "false", "nan", "inf")  # Hydra would read them as values, not as text

Overrides = dict[str, str]  # key as on Hydra's command line -> value in Hydra's grammar


@dataclass(frozen=True)
class TableSettings:
    """How the table shows its numbers."""

    protocol: str | None = "same"  # a protocol's name; "same": any one per column; None: do not ask
    scale: float = 100.0  # scores are fractions
    digits: int = 1
    baseline: str | None = None  # row that the others are compared with, paired by seed
    groups: list[list[str]] = field(default_factory=list)  # rows between two rules, in this order
    published: str | None = None  # conf/published/NAME.yaml, shown below


@dataclass(frozen=True)
class Ablation:
    """One ablation file. Later overrides win: base, column, row."""

    name: str
    path: Path
    title: str
    base: Overrides
    columns: dict[str, Overrides]
    rows: dict[str, Overrides]
    seeds: list[int]
    metrics: list[str]
    table: TableSettings


KEYS = ("title", "base", "columns", "rows", "seeds", "metrics", "table")
REQUIRED = ("rows", "seeds", "metrics")


def find(kind: str, name: str, project: str | None) -> Path:
    """conf/<kind>/<name>.yaml of the project folder, else of this repository."""
    folders = [*([Path(project).expanduser() / "conf"] if project else []), CONF]
    for folder in folders:
        if (folder / kind / f"{name}.yaml").is_file():
            return folder / kind / f"{name}.yaml"
    found = {
        p.relative_to(f / kind).with_suffix("").as_posix()
        for f in folders
        for p in (f / kind).rglob("*.yaml")
    }
    raise UserError(f"{kind}={name}: no such choice, choose from {', '.join(sorted(found)) or 'none'}")


def read(name: str, project: str | None = None) -> Ablation:
    """The ablation `name`; raises `UserError` with the file, the key and the choices."""
    path = find("ablation", name, project)
    content = read_yaml(path)
    _known(content, KEYS, path)
    for key in REQUIRED:
        if not content.get(key):
            raise UserError(f"{path}: {key}: missing or empty")
    columns = _named_overrides(content.get("columns") or {"all": {}}, path, "columns")
    rows = _named_overrides(content["rows"], path, "rows")
    return Ablation(
        name=name,
        path=path,
        title=" ".join(str(content.get("title") or name).split()),
        base=flatten(_mapping(content.get("base"), f"{path}: base")),
        columns=columns,
        rows=rows,
        seeds=_list(content["seeds"], int, f"{path}: seeds"),
        metrics=_list(content["metrics"], str, f"{path}: metrics"),
        table=table_settings(_mapping(content.get("table"), f"{path}: table"), tuple(rows), f"{path}: table"),
    )


def table_settings(values: Mapping[str, Any], rows: tuple[str, ...], where: str) -> TableSettings:
    """Settings from plain values, the rest by default; `where` names them in errors."""
    _known(values, tuple(f.name for f in fields(TableSettings)), where)
    table = TableSettings(**values)
    checks = {
        "protocol": isinstance(table.protocol, str | None),
        "scale": isinstance(table.scale, int | float) and not isinstance(table.scale, bool),
        "digits": isinstance(table.digits, int) and 0 <= table.digits <= 9,
        "baseline": isinstance(table.baseline, str | None),
        "groups": isinstance(table.groups, list) and all(isinstance(g, list) for g in table.groups),
        "published": isinstance(table.published, str | None),
    }
    for key, right in checks.items():
        if not right:
            raise UserError(f"{where}.{key}={getattr(table, key)}: not a valid value")
    for row in [table.baseline, *(row for group in table.groups for row in group)]:
        if row is not None and row not in rows:
            raise UserError(f"{where}: no row {row!r}, choose from {', '.join(rows)}")
    return table


def slug(text: str) -> str:
    """`text` as the name of a folder."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.") or "unnamed"


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
        escaped = re.sub(r"(\\*)'", r"\1\1\\'", value)
        return f"'{escaped}'"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(in_grammar, value))}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{in_grammar(item)}' for key, item in value.items())}}}"
    if isinstance(value, bool | int | float | None):
        return json.dumps(value)
    return in_grammar(str(value))  # a date, say


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice: the first row of that name would vanish in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key) for key, _ in node.value]
        for index, key in enumerate(keys):
            if key in keys[:index]:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key!r} stands twice", node.value[index][0].start_mark
                )
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file."""
    try:
        content = yaml.load(path.read_text(), _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise UserError(f"{path}{where}: not valid YAML: {getattr(error, 'problem', error)}") from None
    return dict(_mapping(content, str(path)))


def _named_overrides(values: Any, path: Path, key: str) -> dict[str, Overrides]:
    named = {
        str(n): flatten(_mapping(v, f"{path}: {key}.{n}"))
        for n, v in _mapping(values, f"{path}: {key}").items()
    }
    slugs: dict[str, str] = {}
    for name in named:
        other = slugs.setdefault(slug(name), name)
        if other != name:
            raise UserError(
                f"{path}: {key}: {other!r} and {name!r} would share the folder name {slug(name)!r}"
            )
    return named


def _known(values: Mapping[str, Any], known: tuple[str, ...], where: Any) -> None:
    for key in values:
        if key not in known:
            raise UserError(f"{where}: {key}: unknown key, choose from {', '.join(known)}")


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise UserError(f"{where}: expected a mapping, not {value!r}")
    return value


def _list(value: Any, kind: type, where: str) -> list[Any]:
    words = {int: "whole numbers", str: "names"}
    if not isinstance(value, list) or any(not isinstance(v, kind) or isinstance(v, bool) for v in value):
        raise UserError(f"{where}={value}: expected a list of {words[kind]}")
    if len(set(value)) < len(value):
        raise UserError(f"{where}={value}: something stands twice")
    return value
