"""Rows and columns of an ablation file written out, and the cells that it leaves out.

A row, a column, and each item of a `list` is a body: Hydra overrides and, beside them,

    grid:       {model.num_slots: [7, 11], optim.lr: [1.0e-4, 4.0e-4]}    every combination
    zip:        {train.steps: [1000, 2000], train.batch: [64, 32]}        first with first, ...
    list:       [{model.num_slots: 7}, {label: large, model.num_slots: 15}]   bodies, one by one
    resources:  {gpus: 2, mem_gb: 64}                     cluster.gpus=2 ...: never part of the run id
    warm_start: {row: short, take: ["*"]}                 from that row's run of the same column and seed

Several of grid, zip and list multiply; what stands further inside wins. Labels are made of the values.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from launch.ablations.overrides import Overrides, flatten, in_grammar, known_keys, mapping, shown, slug
from vocl.errors import UserError

SPREADS = ("grid", "zip", "list")
Said = tuple[tuple[str, str], ...]  # keys and values that a label is made of; a key "" is not shown
WORDS = (*SPREADS, "resources", "warm_start", "label")
ELSEWHERE = {  # what a cell cannot set, since something else does
    "seed": "the file's `seeds` say it",
    "project": "give it on the command line: project=PATH",
}


@dataclass(frozen=True)
class WarmStartRow:
    """Start from the run of `row`, a label, in the same column and with the same seed."""

    row: str
    take: list[str]


@dataclass(frozen=True)
class Variant:
    """A row or a column."""

    label: str
    name: str  # as declared, before grid, zip and list
    overrides: Overrides
    warm_start: WarmStartRow | None = None


@dataclass(frozen=True)
class _Draft:
    """A variant before its label: `said` tells it from its siblings."""

    said: Said = ()
    overrides: Overrides | None = None
    warm_start: WarmStartRow | None = None

    def then(self, inner: _Draft, where: str) -> _Draft:
        """Both, `inner` winning; but what this label says must stay true."""
        own, added = self.overrides or {}, inner.overrides or {}
        for key, _ in self.said:
            if key in added:
                raise UserError(f"{where}: {key}: set twice")
        if inner.warm_start:
            own = {key: value for key, value in own.items() if key != "warm_start"}
        warm = inner.warm_start or (None if "warm_start" in added else self.warm_start)
        return _Draft(self.said + inner.said, own | added, warm)


# --------------------------------------------------------------------------------------------- expand


def columns(declared: Any, where: str) -> dict[str, Variant]:
    """The columns by label."""
    drafts = {name: expand(body, f"{where}.{name}") for name, body in mapping(declared, where).items()}
    if any(draft.warm_start for each in drafts.values() for draft in each):
        raise UserError(f"{where}: only a row can start from another row")
    return _labelled([(str(name), draft, ()) for name, each in drafts.items() for draft in each], where)


def rows(declared: Any, everywhere: Mapping[str, Any], where: str) -> dict[str, Variant]:
    """The rows by label; `everywhere` holds the file's own grid, zip and list, which multiply all rows."""
    points = expand(everywhere, where.removesuffix("rows"))
    found = []
    for name, body in (mapping(declared, where) or {"": {}}).items():
        for draft, point in itertools.product(expand(body, f"{where}.{name}"), points):
            both = replace(point.then(draft, f"{where}.{name}"), said=draft.said)
            found.append((str(name), both, point.said))
    return _linked(_labelled(found, where), [point for _, _, point in found], where)


def base(declared: Any, where: str) -> Overrides:
    """Overrides of all cells: a body that stands for one."""
    for key in (*SPREADS, "label"):
        if key in mapping(declared, where):
            raise UserError(f"{where}: {key}: belongs to the top of the file or into a row or column")
    (draft,) = expand(declared, where)
    if draft.warm_start:
        raise UserError(f"{where}: only a row can start from another row")
    return draft.overrides or {}


def expand(body: Any, where: str) -> list[_Draft]:
    """The drafts that a body stands for, in the order of the file."""
    body = mapping(body, where)
    overrides = flatten({key: value for key, value in body.items() if key not in WORDS})
    resources = flatten(mapping(body.get("resources"), f"{where}.resources"))
    overrides |= {f"cluster.{key}": value for key, value in resources.items()}
    warm = None
    if "warm_start" in body:
        node = mapping(body["warm_start"], f"{where}.warm_start")
        if "row" in node:
            warm = _warm_start(node, f"{where}.warm_start")
        else:
            overrides["warm_start"] = in_grammar(dict(node) or None)
    drafts = [_Draft((), overrides, warm)]
    for word in (key for key in body if key in SPREADS):
        place = f"{where}.{word}" if where[-1:].strip() else f"{where}{word}"
        inner = {"grid": _grid, "zip": _zip, "list": _list}[word](body[word], place)
        drafts = [a.then(b, place) for a, b in itertools.product(drafts, inner)]
    for key, instead in ELSEWHERE.items():
        if any(key in (draft.overrides or {}) for draft in drafts):
            raise UserError(f"{where}: {key}: would be passed over; {instead}")
    return drafts


def _grid(values: Any, where: str) -> list[_Draft]:
    axes = [
        [_Draft(((key, shown(value)),), flatten({key: value})) for value in each]
        for key, each in _lists(values, where).items()
    ]
    return [_product(point, where) for point in itertools.product(*axes)]


def _zip(values: Any, where: str) -> list[_Draft]:
    lists = _lists(values, where)
    if len({len(each) for each in lists.values()}) > 1:
        lengths = ", ".join(f"{key} has {len(each)}" for key, each in lists.items())
        raise UserError(f"{where}: lists of one length belong together: {lengths}")
    return [
        _Draft(
            tuple((key, shown(value)) for key, value in zip(lists, point, strict=True)),
            flatten(dict(zip(lists, point, strict=True))),
        )
        for point in zip(*lists.values(), strict=True)
    ]


def _list(bodies: Any, where: str) -> list[_Draft]:
    if not isinstance(bodies, list) or not bodies:
        raise UserError(f"{where}: expected a list of mappings")
    found = []
    for index, body in enumerate(bodies):
        place = f"{where}[{index}]"
        plain = {key: value for key, value in mapping(body, place).items() if key not in WORDS}
        said = tuple((key, value.strip("'")) for key, value in flatten(plain).items())
        if "label" in mapping(body, place):
            said = (("", str(body["label"])),)
        found += [replace(draft, said=said + draft.said) for draft in expand(body, place)]
    return found


def _product(drafts: Sequence[_Draft], where: str) -> _Draft:
    out = _Draft()
    for draft in drafts:
        out = out.then(draft, where)
    return out


def _lists(values: Any, where: str) -> Mapping[str, list[Any]]:
    lists = mapping(values, where)
    for key, each in lists.items():
        if not isinstance(each, list) or not each:
            raise UserError(f"{where}.{key}={each}: expected a list of values")
    if not lists:
        raise UserError(f"{where}: empty")
    return lists


def _warm_start(node: Mapping[str, Any], where: str) -> WarmStartRow:
    known_keys(node, ("row", "take"), where)
    take = node.get("take")
    if not isinstance(take, list) or not take or not all(isinstance(glob, str) for glob in take):
        raise UserError(f"{where}.take={take}: expected a list of globs of parameter names")
    return WarmStartRow(str(node["row"]), take)


# --------------------------------------------------------------------------------------------- labels


def _labelled(
    found: Sequence[tuple[str, _Draft, tuple[tuple[str, str], ...]]], where: str
) -> dict[str, Variant]:
    """Variants by label: the declared name, then the values; keys are cut to their last part if it tells."""
    keys = {key for _, draft, point in found for key, _ in (*draft.said, *point) if key}
    last = Counter(key.rpartition(".")[2] for key in keys)
    short = {key: key.rpartition(".")[2] if last[key.rpartition(".")[2]] == 1 else key for key in keys}
    variants: dict[str, Variant] = {}
    slugs: dict[str, str] = {}
    for name, draft, point in found:
        parts = [f"{short[key]}={text}" if key else text for key, text in (*draft.said, *point)]
        label = ", ".join(part for part in (name, *parts) if part)
        if label in variants:
            raise UserError(f"{where}: {label!r} stands twice; give one of them a label")
        other = slugs.setdefault(slug(label), label)
        if other != label:
            raise UserError(f"{where}: {other!r} and {label!r} would share the folder name {slug(label)!r}")
        variants[label] = Variant(label, name, draft.overrides or {}, draft.warm_start)
    return variants


def _linked(variants: dict[str, Variant], points: Sequence[Said], where: str) -> dict[str, Variant]:
    """The rows with the label of the row they start from; a bare name means its same point of the grid."""
    place = dict(zip(variants, points, strict=True))
    linked = {}
    for label, variant in variants.items():
        if variant.warm_start is None:
            linked[label] = variant
            continue
        name = variant.warm_start.row
        same = [v.label for v in variants.values() if v.name == name and place[v.label] == place[label]]
        source = name if name in variants else same[0] if len(same) == 1 else None
        if source is None:
            choices = ", ".join(other for other in variants if other != label)
            raise UserError(f"{where}.{label}.warm_start.row={name}: no such row, choose from {choices}")
        linked[label] = replace(variant, warm_start=replace(variant.warm_start, row=source))
    sources_first(linked, where)
    return linked


def sources_first(variants: Mapping[str, Variant], where: str) -> list[Variant]:
    """Each row after the one it starts from; raises `UserError` for a circle."""
    ordered: dict[str, Variant] = {}
    for variant in variants.values():
        chain = [variant]
        while (warm := chain[-1].warm_start) and warm.row not in ordered:
            if warm.row in (link.label for link in chain):
                circle = " from ".join(link.label for link in (*chain, variants[warm.row]))
                raise UserError(f"{where}: rows start from each other in a circle: {circle}")
            chain.append(variants[warm.row])
        ordered |= {link.label: link for link in reversed(chain)}
    return list(ordered.values())


# -------------------------------------------------------------------------------------------- exclude


@dataclass(frozen=True)
class Pattern:
    """Leaves out the cells that match all of it: row (label or declared name), column, seed, overrides."""

    places: dict[str, list[Any]]
    overrides: Overrides

    @classmethod
    def read(cls, node: Any, where: str) -> Pattern:
        """One item of `exclude`."""
        values = dict(mapping(node, where))
        if not values:
            raise UserError(f"{where}: empty: it would leave out everything")
        places = {key: values.pop(key) for key in ("row", "column", "seed") if key in values}
        return cls({k: v if isinstance(v, list) else [v] for k, v in places.items()}, flatten(values))

    def matches(self, row: Variant, column: Variant, seed: int, overrides: Overrides) -> bool:
        """Whether the cell with these `overrides` is left out."""
        names = {"row": (row.label, row.name), "column": (column.label, column.name), "seed": (seed,)}
        return all(
            set(map(str, names[key])) & set(map(str, each)) for key, each in self.places.items()
        ) and all(key in overrides and _same(overrides[key], value) for key, value in self.overrides.items())


def _same(a: str, b: str) -> bool:
    try:
        return a == b or float(a) == float(b)
    except ValueError:
        return False
