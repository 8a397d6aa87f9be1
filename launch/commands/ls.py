"""`vocl ls`: the runs on disk, also by what their configs say. Nothing is composed."""

from __future__ import annotations

import fnmatch
import functools
import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import yaml

from launch.commands.status import PATIENCE_S
from launch.run_states import text_table
from launch.selection.selector import ChosenRuns, resolve_or_all
from launch.slurm.job_states import ask
from vocl.command_line import defaults
from vocl.command_line.verb import ABLATIONS, RUNS, Line, verb, words
from vocl.errors import UserError
from vocl.rundir.run_dir import RunDir

HEADERS = ("run", "state", "table", "row", "column", "seed", "what", "date")
MISSING = object()


@verb("ls")
@words(
    "[NAME] [KEY=VALUE...] [runtime.root=PATH]",
    "An ablation that was submitted, or runs; what their configs say.",
    takes=defaults.ROOT,
    offers=(ABLATIONS, RUNS),
)
def main(line: Line) -> int:
    """List the runs on disk, newest last; always 0.

    A run is listed when its saved config has every `value` under its `key` (model.num_slots=7). A
    value may be a glob; a part of a config answers to its name: model=*Recurrent, loss=[feature_mse].
    """
    known = [a for a in line.words if "=" not in a or a.startswith(("ablation=", "runtime.root="))]
    filters = [a.partition("=") for a in line.words if a not in known]
    chosen = resolve_or_all(known, compose=False)
    root = chosen.root
    dated = {run: _date(root.run(run)) for run in chosen.runs}
    configs = {run: root.run(run).config_unchecked() for run, date in dated.items() if date}
    for key, _, _ in filters:
        if configs and all(_value(config, key) is MISSING for config in configs.values()):
            raise UserError(f"{key}: no run's config has this key")
    kept = {
        run
        for run, config in configs.items()
        if all(_matches(_value(config, key), wanted) for key, _, wanted in filters)
    }
    rows = _rows(chosen, configs, dated, kept)
    text_table.write(
        [
            *(text_table.align(HEADERS, rows) if rows else []),
            f"{len(kept)} of {text_table.runs(len(configs))}",
        ]
    )
    return 0


def _rows(
    chosen: ChosenRuns, configs: dict[str, Any], dated: dict[str, float], kept: set[str]
) -> list[list[str]]:
    states, trouble = chosen.look(functools.partial(ask, timeout_s=PATIENCE_S))
    if trouble:
        print(f"warning: {trouble}; this is what the records say", file=sys.stderr)
    tables: dict[str, str] = {}
    for title, entries in chosen.groups.items():
        for entry in entries:
            if title.startswith("ablation "):
                tables.setdefault(entry.id, title.removeprefix("ablation "))
    rows = []
    for run in sorted(kept, key=lambda run: (dated[run], run)):
        entry, config = chosen.by_id[run], configs[run]
        seed = entry.seed if entry.seed is not None else config.get("seed", "")
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(dated[run]))
        place = (tables.get(run, ""), entry.row, entry.column, str(seed))
        rows.append([run, states[run].name, *place, summary(config), when])
    return rows


def summary(config: Mapping[str, Any]) -> str:
    """A few words on what a config trains."""
    slots, terms = _value(config, "model.num_slots"), config.get("loss")
    parts = [
        _name(config.get("model")),
        f"{slots} slots" if slots is not MISSING else "",
        _name(config.get("backbone")),
        _name(config.get("dataset")),
        "+".join(map(str, terms)) if isinstance(terms, Mapping | list) else "",
        f"{_value(config, 'train.steps')} steps" if _value(config, "train.steps") is not MISSING else "",
    ]
    return " ".join(part for part in parts if part)


def _date(run: RunDir) -> float:
    """When anything was last made or renamed in it; 0 where there is no such folder."""
    try:
        return os.stat(run.path).st_mtime
    except OSError:
        return 0.0


def _value(config: Any, key: str) -> Any:
    for part in key.split("."):
        if not isinstance(config, Mapping) or part not in config:
            return MISSING
        config = config[part]
    return config


def _name(node: Any) -> str:
    """What people call a part of a config: its name, else the last word of its target."""
    if not isinstance(node, Mapping):
        return ""
    return str(node.get("name") or str(node.get("_target_", "")).rpartition(".")[2])


def _matches(value: Any, wanted: str) -> bool:
    """Whether a config's value is what somebody wrote on a command line."""
    if value is MISSING:
        return False
    try:
        meant = yaml.safe_load(wanted)
    except yaml.YAMLError:
        meant = wanted
    if isinstance(value, Mapping):
        if isinstance(meant, list):
            return set(map(str, meant)) == set(value)
        return _fits(_name(value), wanted) or wanted in value
    if isinstance(value, bool) != isinstance(meant, bool):
        return False
    if isinstance(value, float):
        with suppress(ValueError):  # YAML takes 4e-4 for a word
            return value == float(wanted)
    return bool(value == meant) or _fits(str(value), wanted)


def _fits(text: str, wanted: str) -> bool:
    """Whether `wanted` is `text`, signs of globs in it or not, or a glob of it."""
    return text == wanted or fnmatch.fnmatchcase(text, wanted)
