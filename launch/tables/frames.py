"""Runs and tables as pandas DataFrames, for notebooks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch.escape import one_line
from launch.selection.filters import Filters, is_filter, results
from launch.selection.known_configs import configs as configs_of
from launch.selection.selector import resolve_or_all
from launch.tables.render import cells_frame
from launch.tables.tabulate import tabulated
from vocl.config.grammar import setting
from vocl.config.schema import HASHED

if TYPE_CHECKING:
    import pandas as pd

FACTS = ("steps", "wall_s", "gpu_hours", "code")  # of a result, beside its scores


def runs(*selector: str, root: str | Path = "results") -> pd.DataFrame:
    """A line per run, by its id: state, seed, facts and scores once it is done, and its config.

    `selector` as of `vocl ls`: `"demo"`, `"model.num_slots=7"`, `"state=done"`, `"tag=NAME"`,
    `"video_fg_ari>0.6"`; nothing: all runs under `root`. Tags and notes are columns too. Scores are
    fractions, named as `vocl table` names them; columns of the config have dotted keys (`model.num_slots`).
    """
    import pandas as pd

    wanted, names = Filters.of(filter(is_filter, selector)), [w for w in selector if not is_filter(w)]
    chosen = resolve_or_all([*names, setting("runtime.root", root)], compose=False)
    configs = configs_of(chosen.root, chosen.runs)
    wanted.refuse_unknown(configs)
    states, _ = chosen.look()
    wanted.refuse_unknown_scores(results(chosen.root, states))
    lines = {}
    for run in chosen.runs:
        place, entry, config = chosen.root.run(run), chosen.by_id[run], configs[run]
        if not wanted.keep(place, config, states[run]):
            continue
        found, remarks = place.result_or_none(), place.remarks()
        seed = config.get("seed") if entry.seed is None else entry.seed
        hashed = {key: config[key] for key in HASHED if key in config and key != "seed"}
        lines[run] = {
            "state": states[run].name,
            "row": one_line(entry.row),
            "column": one_line(entry.column),
            "seed": seed,
            "tags": " ".join(remarks.tags),
            "note": remarks.note,
            **{name: getattr(found, name, None) for name in FACTS},
            **(found.scores if found else {}),
            **dict(_flat(hashed)),
        }
    return pd.DataFrame.from_dict(lines, orient="index").rename_axis("run")


def table(name: str, *overrides: str, root: str | Path = "results") -> pd.DataFrame:
    """The cells of a declared table, one per line, as table.csv has them. Writes nothing."""
    return cells_frame(tabulated([name, *overrides, setting("runtime.root", root)]).table)


def _flat(node: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value
