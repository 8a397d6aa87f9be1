"""`vocl ls`: the runs on disk, also by what their configs say. Nothing is composed."""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from launch.commands.status import PATIENCE_S
from launch.run_states import text_table
from launch.run_states.many import few_collections
from launch.run_states.states import RunState
from launch.selection.filters import MISSING, Filters, is_filter, name_of, results, value_of
from launch.selection.known_configs import configs as configs_of
from launch.selection.selector import ChosenRuns, resolve_or_all
from launch.slurm.job_states import ask
from vocl.command_line import defaults
from vocl.command_line.verb import ABLATIONS, RUNS, Line, verb, words
from vocl.rundir.run_dir import RunDir

HEADERS = ("run", "state", "table", "row", "column", "seed", "what", "probe", "date", "tags")


@verb("ls")
@words(
    "[NAME] [KEY=VALUE...] [SCORE>VALUE...] [runtime.root=PATH]",
    "An ablation that was submitted, or runs; what their configs, scores and tags say.",
    takes=defaults.ROOT,
    offers=(ABLATIONS, RUNS),
)
@few_collections()
def main(line: Line) -> int:
    """List the runs on disk, newest last; always 0.

    A run is listed when its saved config has every `value` under its `key` (model.num_slots=7). A
    value may be a glob; a part of a config answers to its name: model=*Recurrent, loss=[feature_mse].
    Also by state=done, by tag=NAME (vocl tag), and by scores: 'video_fg_ari>0.6'.
    """
    wanted = Filters.of(word for word in line.words if is_filter(word))
    chosen = resolve_or_all([word for word in line.words if not is_filter(word)], compose=False)
    dated = {run: _date(chosen.root.run(run)) for run in chosen.runs}
    configs = configs_of(chosen.root, [run for run, date in dated.items() if date])
    wanted.refuse_unknown(configs)
    states, trouble = chosen.look(functools.partial(ask, timeout_s=PATIENCE_S))
    if trouble:
        print(f"warning: {trouble}; this is what the records say", file=sys.stderr)
    wanted.refuse_unknown_scores(results(chosen.root, {run: states[run] for run in configs}))
    kept = {run for run, each in configs.items() if wanted.keep(chosen.root.run(run), each, states[run])}
    rows = _rows(chosen, configs, dated, {run: states[run] for run in kept})
    text_table.write(
        [
            *(text_table.align(HEADERS, rows) if rows else []),
            f"{len(kept)} of {text_table.runs(len(configs))}",
        ]
    )
    return 0


def _rows(
    chosen: ChosenRuns, configs: dict[str, Any], dated: dict[str, float], kept: dict[str, RunState]
) -> list[list[str]]:
    """A row per run of `kept`, which has their states."""
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
        tags = " ".join(chosen.root.run(run).remarks().tags)
        rows.append([run, kept[run].name, *place, summary(config), kept[run].probe, when, tags])
    return rows


def summary(config: Mapping[str, Any]) -> str:
    """A few words on what a config trains."""
    slots, terms = value_of(config, "model.num_slots"), config.get("loss")
    parts = [
        name_of(config.get("model")),
        f"{slots} slots" if slots is not MISSING else "",
        name_of(config.get("backbone")),
        name_of(config.get("dataset")),
        "+".join(map(str, terms)) if isinstance(terms, Mapping | list) else "",
        f"{value_of(config, 'train.steps')} steps" if value_of(config, "train.steps") is not MISSING else "",
    ]
    return " ".join(part for part in parts if part)


def _date(run: RunDir) -> float:
    """When an attempt last began or ended, before the first when anything was made in its folder; 0 where
    there is no such folder."""
    for folder in (run.events, run.path):
        with suppress(OSError):
            return os.stat(folder).st_mtime
    return 0.0
