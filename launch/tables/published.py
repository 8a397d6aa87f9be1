"""What papers and releases say: the scores of conf/published/NAME.yaml, which is read here alone.

    source: Moon et al., CVPR 2026    # words hold for all below, or until one further inside: who says it,
    protocol: slotcurri               # by which conf/eval/protocol,
    n: 3                              # over how many runs,
    level: video                      # whether segments keep their names for a video or an image; by default
                                      # what the metric's name begins with,
    comparable: "no: other videos"    # or yes, the default,
    method: SlotCurri                 # and of which method; by default the row's name
    tables:                           # what stands in no table: `rows`, at the top of the file
      4:                              # `published: NAME/4` of an ablation shows these alone
        rows:
          guided:                     # as a table shows it
            ytvis2021:                # dataset.name
              video_fg_ari: 0.426     # <metric> or <evaluation>/<metric>, a fraction
              video_mbo: {value: 0.337, std: 0.004, n: 5}

The file may be of a project (`project=PATH`). For its other keys see `launch.tables.claims`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.ablations.ablation import find
from launch.ablations.overrides import known_keys, mapping, read_mapping
from vocl.config.compose import group_choices
from vocl.config.run_config import RunConfig
from vocl.errors import UnknownChoice, UserError, brief
from vocl.files import NUMBER, is_a

WORDS = ("source", "protocol", "n", "level", "comparable", "method")
LEVELS = ("video", "image")
FILE = (*WORDS, "rows", "tables", "verify", "importer", "no_importer")
NO = "no: "  # and why
UNLIKE_OURS = "≠"  # behind a score that does not compare with ours
Said = dict[str, Any]  # values of WORDS, checked


@dataclass(frozen=True)
class PublishedScore:
    """A published number, a fraction or in its metric's own unit. `why`: what keeps it from comparing
    with ours, if anything."""

    row: str
    dataset: str
    metric: str
    value: float
    std: float | None
    n: int | None
    method: str
    level: str | None
    source: str | None
    table: str | None
    protocol: str | None
    why: str | None

    @property
    def comparable(self) -> bool:
        """Whether it stands for what ours is."""
        return self.why is None

    @property
    def where(self) -> str:
        """Its source, with the table where that has a number; other names of tables are ours."""
        numbered = (self.table or "")[:1].isdigit()
        return f"{self.source or 'source not given'}{f', table {self.table}' if numbered else ''}"


def contents(name: str, project: str | None) -> tuple[Path, Mapping[str, Any]]:
    """The path of file `name` and its keys; `UserError` with the choices."""
    path = find("published", name, project)
    content = read_mapping(path)
    known_keys(content, FILE, path)
    return path, content


def scores(name: str, project: str | None) -> list[PublishedScore]:
    """The scores of file `name`, or those of one of its tables: FILE/TABLE. `UserError` with the choices."""
    file, slash, table = name.partition("/")
    path, content = contents(file, project)
    protocols = group_choices("eval/protocol", project)
    said = _words(content, f"{path}: ", protocols)
    found = _rows(content.get("rows"), said | {"table": None}, f"{path}: rows", protocols)
    for key, node in mapping(content.get("tables"), f"{path}: tables").items():
        where = f"{path}: tables.{key}"
        own = mapping(node, where)
        known_keys(own, (*WORDS, "rows"), where)
        inner = said | _words(own, f"{where}.", protocols) | {"table": str(key)}
        found += _rows(own.get("rows"), inner, f"{where}.rows", protocols)
    chosen = [score for score in found if score.table == table or not slash]
    if slash and not chosen:
        tables = dict.fromkeys(score.table for score in found if score.table)
        raise UnknownChoice("published", name, [file, *(f"{file}/{each}" for each in tables)])
    return chosen


def _rows(node: Any, said: Said, where: str, protocols: Sequence[str]) -> list[PublishedScore]:
    return [
        _score(keys, leaf, above, place, protocols)
        for keys, leaf, above, place in _below(node, said, where, 3, protocols)
    ]


def _below(
    node: Any, said: Said, where: str, depth: int, protocols: Sequence[str]
) -> Iterator[tuple[tuple[str, ...], Any, Said, str]]:
    """What stands `depth` mappings below `node`: its keys, itself, what is said of it, its place."""
    own = mapping(node, where)
    said = {**said, **_words(own, f"{where}.", protocols)}
    for key, value in own.items():
        if key in WORDS:
            continue
        place = f"{where}.{key}"
        if depth == 1:
            yield (str(key),), value, said, place
        else:
            for keys, *rest in _below(value, said, place, depth - 1, protocols):
                yield (str(key), *keys), *rest


def _score(
    keys: Sequence[str], node: Any, said: Said, where: str, protocols: Sequence[str]
) -> PublishedScore:
    row, dataset, metric = keys
    own = node if isinstance(node, Mapping) else {"value": node}
    known_keys(own, ("value", "std", *WORDS), where)
    value: Any = own.get("value")
    std = own.get("std")
    if not is_a(value, NUMBER):
        raise UserError(f"{where}={brief(value)}: expected a number, or {{value: 0.5, std: 0.01}}")
    if std is not None and not (is_a(std, NUMBER) and std >= 0):
        raise UserError(f"{where}.std={brief(std)}: expected a number >= 0")
    first = metric.rpartition("/")[2].partition("_")[0]
    defaults = {"level": first if first in LEVELS else None, "method": row}
    words: Said = dict.fromkeys(WORDS) | defaults | said | _words(own, f"{where}.", protocols)
    why = words.pop("comparable")
    return PublishedScore(row=row, dataset=dataset, metric=metric, value=value, std=std, why=why, **words)


def _words(node: Mapping[str, Any], prefix: str, protocols: Sequence[str]) -> dict[str, Any]:
    return {word: _word(word, node[word], f"{prefix}{word}", protocols) for word in WORDS if word in node}


def _word(word: str, value: Any, where: str, protocols: Sequence[str]) -> Any:
    """The value of one of WORDS: text or a number, of `comparable` None or why not."""
    if word == "comparable":
        if value is True:
            return None
        if isinstance(value, str) and value.startswith(NO) and value.removeprefix(NO).strip():
            return value.removeprefix(NO).strip()
        raise UserError(f'{where}={brief(value)}: expected yes, or "{NO}" and why')
    if word == "n":
        if is_a(value, int) and value >= 1:
            return value
        raise UserError(f"{where}={brief(value)}: expected a whole number >= 1")
    choices = {"level": LEVELS, "protocol": protocols}.get(word)
    if choices and value not in choices:
        raise UserError(f"{where}={brief(value)}: unknown, choose from {', '.join(choices)}")
    if not isinstance(value, str | int) or isinstance(value, bool) or value == "":
        raise UserError(f"{where}={brief(value)}: expected text")
    return str(value)


def shown(
    names: str | Sequence[str], metrics: Sequence[str], configs: Mapping[str, RunConfig], project: str | None
) -> dict[tuple[str, str, str], PublishedScore]:
    """Those of `names` (see `scores`) that fit a table, by row, column and metric; `configs`: by column.

    A score fits the dataset of its column; that of <evaluation>/<metric> the evaluation's own, where it has
    one.
    """
    found: dict[tuple[str, str, str], PublishedScore] = {}
    for score in itertools.chain(*(scores(name, project) for name in _listed(names))):
        found.setdefault((score.row, score.dataset, score.metric), score)
    fitting = {}
    for row in dict.fromkeys(row for row, _, _ in found):
        for column, config in configs.items():
            for metric in metrics:
                evaluation, slash, own = metric.partition("/")
                fit = found.get((row, config.dataset.name, metric))
                if fit is None and slash and evaluation in config.eval:
                    fit = found.get((row, config.dataset_of(evaluation).name, own))
                if fit is not None:
                    fitting[row, column, metric] = fit
    return fitting


def _listed(names: str | Sequence[str]) -> Sequence[str]:
    return [names] if isinstance(names, str) else names


def notes(found: Iterable[PublishedScore]) -> list[str]:
    """Lines below a table that shows these: where they stand, and which do not compare with ours."""
    known = list(dict.fromkeys(found))
    lines = []
    for where in dict.fromkeys(score.where for score in known):
        rows = dict.fromkeys(_described(score) for score in known if score.where == where)
        lines.append(f"published: {where}: {'; '.join(rows)}")
    for why in dict.fromkeys(score.why for score in known if score.why is not None):
        rows = dict.fromkeys(_marked(score, known) for score in known if score.why == why)
        lines.append(f"{UNLIKE_OURS} published, but do not compare with ours ({why}): {'; '.join(rows)}")
    return lines


def _described(score: PublishedScore) -> str:
    """The row, and what neither its name nor that of the metric says."""
    own = score.metric.rpartition("/")[2]
    is_named = score.method.casefold() in score.row.casefold()
    method = [] if is_named else [f"method {score.method}"]
    level = [f"{own} of each {score.level}"] if score.level and not own.startswith(score.level) else []
    return f"{score.row} ({', '.join([*method, *level])})" if method or level else score.row


def _marked(score: PublishedScore, known: Sequence[PublishedScore]) -> str:
    """The row, and of what in it the reason holds where it is not all."""
    reasons = {other.why for other in known if other.row == score.row}
    return score.row if len(reasons) == 1 else f"{score.row} on {score.dataset} ({score.metric})"
