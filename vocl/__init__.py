"""The workbench for research in video object-centric learning.

    import vocl
    vocl.load("4f1c9e0a7b").model     # the trained model of a run
    vocl.runs("demo")                 # runs as a pandas DataFrame: state, config, scores
    vocl.table("demo")                # the cells of a declared table as another

What they need is imported when they are called.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from vocl.loading import Loaded

__version__ = "0.1.0"


def load(run: str, root: str = "results", device: str | torch.device = "cpu") -> Loaded:
    """Load the model of a run, an id under `root` or a folder, from its newest valid checkpoint."""
    from vocl import loading

    return loading.load(run, root, device)


def runs(*selector: str, root: str | Path = "results") -> pd.DataFrame:
    """A line per run, by its id: state, seed, facts and scores once it is done, and its config.

    `selector` as of `vocl ls`: `"demo"`, `"model.num_slots=7"`, `"state=done"`, `"tag=NAME"`,
    `"video_fg_ari>0.6"`; nothing: all runs under `root`. Tags and notes are columns too. Scores are
    fractions, named as `vocl table` names them; columns of the config have dotted keys (`model.num_slots`).
    """
    from vocl.commands import launching

    return launching.module("tables.frames").runs(*selector, root=root)


def table(name: str, *overrides: str, root: str | Path = "results") -> pd.DataFrame:
    """The cells of a declared table, one per line, as table.csv has them. Writes nothing."""
    from vocl.commands import launching

    return launching.module("tables.frames").table(name, *overrides, root=root)
