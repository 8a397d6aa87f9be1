"""The configs of many runs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from launch.run_states.remembered import mark, remembered
from vocl.config.folders import CONF
from vocl.config.schema import Config
from vocl.rundir.results_root import ResultsRoot

CODE = (Path(__file__).resolve().parents[2] / "vocl", CONF)  # how an old config reads today


def configs(root: ResultsRoot, runs: Iterable[str]) -> dict[str, Config]:
    """The config of each run in today's keys, unchecked; empty where there is none that can be read.

    Those that have not changed since come from a cache.
    """
    marks = {run: mark(root.run(run).config_path) for run in runs}
    return remembered(root, "configs", CODE, marks, lambda run: root.run(run).config_unchecked())
