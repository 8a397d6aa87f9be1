"""A declared table: rows x columns x seeds of Hydra overrides, read from conf/ablation/NAME.yaml.

    title:   what the table is about
    base:    {experiment: slotcontrast/synthetic}        # all cells; a column wins over it, a row over both
    columns: {MOVi-C: {experiment: slotcontrast/movi_c}}  # default: one
    rows:    {no contrast: {loss: [feature_mse]}, ours: {}}
    grid:    {model.num_slots: [7, 11]}                  # also zip, list: multiply all rows, or are the rows
    exclude: [{row: no contrast, model.num_slots: 7}]    # cells that match all of an item
    seeds:   [0, 1, 2]
    metrics: [video_fg_ari, probe/r2]                    # of the first evaluation that has it; of a named one
    table:   {baseline: ours}                            # see TableSettings

What may stand in a row or column beside overrides is told in `launch.ablations.rows`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from launch.ablations import rows
from launch.ablations.overrides import Overrides, known_keys, mapping, read_mapping
from launch.ablations.rows import SPREADS, Pattern, Variant
from vocl.config.folders import conf_folders
from vocl.errors import UnknownChoice, UserError, brief
from vocl.files import NUMBER, is_a, user_path
from vocl.measure import Measure

FRACTIONS, DECIMALS = 100.0, 1  # scale and digits of metrics that a mapping by metric does not name


@dataclass(frozen=True)
class TableSettings:
    """How the table shows its numbers."""

    protocol: str | None = "same"  # a protocol's name; "same": any one per column; None: do not ask
    scale: float | dict[str, float] = 100.0  # of fractions, or by metric; one in its own unit has its own
    digits: int | dict[str, int] = 1  # decimals, or by metric, where a metric does not say its own
    baseline: str | None = None  # row that the others are compared with
    groups: list[list[str]] = field(default_factory=list)  # rows between two rules, in this order
    published: str | list[str] | None = None  # NAME or NAME/TABLE of conf/published, or several: shown below
    interval: float | None = 0.95  # level of the confidence intervals; None: none
    noise: float = 0.09  # a difference of a larger p is marked as inside noise
    names: Literal["metrics", "paper"] = "metrics"  # how metrics are called: as in results, or as papers do
    counts: bool = True  # (n) behind each cell
    deltas: bool = True  # a column of differences to the baseline
    transpose: bool = False  # rows as columns
    fit: bool = False  # LaTeX: as wide as the text's column
    template: str | None = None  # LaTeX: a file that table.tex is made by, see docs/tables.md

    def factor_of(self, metric: str, measure: Measure) -> float:
        """What a metric is multiplied by."""
        if isinstance(self.scale, dict) and metric in self.scale:
            return self.scale[metric]
        plain = FRACTIONS if isinstance(self.scale, dict) else self.scale
        return plain if measure.is_fraction else measure.scale

    def digits_of(self, metric: str, measure: Measure) -> int:
        """Decimals of a metric."""
        if isinstance(self.digits, dict) and metric in self.digits:
            return self.digits[metric]
        plain = DECIMALS if isinstance(self.digits, dict) else self.digits
        return plain if measure.digits is None else measure.digits


@dataclass(frozen=True)
class Ablation:
    """One ablation file, rows and columns by label. Later overrides win: base, column, row."""

    name: str
    path: Path
    title: str
    base: Overrides
    columns: dict[str, Variant]
    rows: dict[str, Variant]
    exclude: list[Pattern]
    seeds: list[int]
    metrics: list[str]
    table: TableSettings

    def overrides(self, row: Variant, column: Variant) -> Overrides:
        """What the file says of a cell."""
        return {**self.base, **column.overrides, **row.overrides}

    def keeps(self, row: Variant, column: Variant, seed: int) -> bool:
        """Whether no item of `exclude` matches."""
        overrides = self.overrides(row, column)
        return not any(pattern.matches(row, column, seed, overrides) for pattern in self.exclude)


NAMES = re.compile(  # places of words; a name that is a key is one anyhow
    r"title|table\.(baseline|protocol|template|published.*|groups.*)|exclude\[\d+\]\.(row|column).*"
    r"|(.*\.)?list\[\d+\]\.label|rows\..*warm_start\.row"
)
KEYS = ("title", "base", "columns", "rows", *SPREADS, "exclude", "seeds", "metrics", "table")


def find(kind: str, name: str, project: str | None) -> Path:
    """conf/<kind>/<name>.yaml of the project folder, else of this repository."""
    folders = conf_folders(project)[::-1]
    for folder in folders:
        if (folder / kind / f"{name}.yaml").is_file():
            return folder / kind / f"{name}.yaml"
    found = {
        p.relative_to(f / kind).with_suffix("").as_posix()
        for f in folders
        for p in (f / kind).rglob("*.yaml")
    }
    raise UnknownChoice(kind, name, sorted(found))


def read(name: str, project: str | None = None) -> Ablation:
    """The ablation `name`; raises `UserError` with the file, the key and the choices."""
    if ".." in Path(name).parts:
        raise UserError(f"ablation={name}: goes up by '..'; give a name of conf/ablation, or a whole path")
    path = find("ablation", name, project)
    content = read_mapping(path, NAMES)
    known_keys(content, KEYS, path)
    if not any(content.get(key) for key in ("rows", *SPREADS)):
        raise UserError(f"{path}: rows: missing or empty (or give grid, zip or list)")
    for key in ("seeds", "metrics"):
        if content.get(key) in (None, "", [], {}):
            raise UserError(f"{path}: {key}: missing or empty")
    spreads = {key: content[key] for key in content if key in SPREADS}
    declared = rows.rows(content.get("rows"), spreads, f"{path}: rows")
    table = mapping(content.get("table"), f"{path}: table")
    exclude = content.get("exclude") or []
    if not isinstance(exclude, list):
        raise UserError(f"{path}: exclude: expected a list of mappings")
    settings = table_settings(table, tuple(declared), f"{path}: table")
    if settings.template is not None:
        settings = replace(settings, template=str(path.parent / user_path(settings.template)))
    found = Ablation(
        name=name.lstrip("/"),  # of folders below the results folder, also where a whole path was given
        path=path,
        title=" ".join(str(content.get("title") or name).split()),
        base=rows.base(content.get("base"), f"{path}: base"),
        columns=rows.columns(content.get("columns") or {"all": {}}, f"{path}: columns"),
        rows=declared,
        exclude=[Pattern.read(node, f"{path}: exclude[{index}]") for index, node in enumerate(exclude)],
        seeds=_list(content["seeds"], int, f"{path}: seeds"),
        metrics=_list(content["metrics"], str, f"{path}: metrics"),
        table=settings,
    )
    _all_exclude_something(found)
    for key in ("scale", "digits"):
        named = getattr(found.table, key)
        known_keys(named if isinstance(named, dict) else {}, tuple(found.metrics), f"{path}: table.{key}")
    return found


def _all_exclude_something(declared: Ablation) -> None:
    for index, pattern in enumerate(declared.exclude):
        if not any(
            pattern.matches(row, column, seed, declared.overrides(row, column))
            for row in declared.rows.values()
            for column in declared.columns.values()
            for seed in declared.seeds
        ):
            raise UserError(f"{declared.path}: exclude[{index}]: matches no cell")


def table_settings(values: Mapping[str, Any], rows: tuple[str, ...], where: str) -> TableSettings:
    """Settings from plain values, the rest by default; `where` names them in errors."""
    known_keys(values, tuple(f.name for f in fields(TableSettings)), where)
    table = TableSettings(**values)
    checks = {
        "protocol": isinstance(table.protocol, str | None),
        "scale": all(is_a(scale, NUMBER) and scale > 0 for scale in _each(table.scale)),
        "digits": all(is_a(digits, int) and 0 <= digits <= 9 for digits in _each(table.digits)),
        "baseline": isinstance(table.baseline, str | None),
        "groups": isinstance(table.groups, list) and all(isinstance(g, list) for g in table.groups),
        "published": isinstance(table.published, str | None) or _are_words(table.published),
        "interval": table.interval is None or (is_a(table.interval, NUMBER) and 0 < table.interval < 1),
        "noise": is_a(table.noise, NUMBER) and 0 < table.noise < 1,
        "template": isinstance(table.template, str | None),
        "names": table.names in ("metrics", "paper"),
        **{key: isinstance(getattr(table, key), bool) for key in ("counts", "deltas", "transpose", "fit")},
    }
    for key, right in checks.items():
        if not right:
            raise UserError(f"{where}.{key}={getattr(table, key)}: not a valid value")
    for row in [table.baseline, *(row for group in table.groups for row in group)]:
        if row is not None and row not in rows:
            raise UserError(f"{where}: no row {row!r}, choose from {', '.join(rows)}")
    return table


def _each(value: Any) -> list[Any]:
    """A value that holds for all metrics, or those by metric."""
    return list(value.values()) if isinstance(value, dict) else [value]


def _are_words(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)


def _list(value: Any, kind: type, where: str) -> list[Any]:
    words, examples = {int: "whole numbers", str: "names"}, {int: "0, 1", str: "video_mbo"}
    if not isinstance(value, list) or any(not isinstance(v, kind) or isinstance(v, bool) for v in value):
        raise UserError(f"{where}={brief(value)}: expected a list of {words[kind]}, as in [{examples[kind]}]")
    if len(set(value)) < len(value):
        raise UserError(f"{where}={brief(value)}: something stands twice")
    return value
