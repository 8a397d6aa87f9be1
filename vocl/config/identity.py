"""Names of runs, cells and evaluations: digests of all that affects them, and of nothing else."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from vocl.config.migrate import as_before
from vocl.config.schema import HASHED, Config


def run_id(config: Config) -> str:
    """10 hex digits that name the run: blake2s over everything that affects training."""
    return _digest({key: config[key] for key in HASHED})


def cell_id(config: Config, source: str | None = None) -> str:
    """Like `run_id`, without the seed: the runs of a cell differ in their seed alone.

    `source`: the cell of the run that `warm_start` names, which then stands for it: each seed of a
    row starts from a run of its own seed.
    """
    content = {key: config[key] for key in HASHED if key != "seed"}
    if source is not None:
        content["warm_start"] = config["warm_start"] | {"run": source}
    return _digest(content)


def evaluation_id(parts: Mapping[str, Any]) -> str:
    """Name of an evaluation: the run, the checkpoint's digest and the evaluation's settings (`eval`)."""
    before = as_before({"eval": {"": copy.deepcopy(parts["eval"])}})  # the rules name evaluations by *
    return _digest({**parts, "eval": before["eval"][""]})


def _digest(content: Mapping[str, Any]) -> str:
    hashed = as_before(copy.deepcopy(dict(content)))
    if "curriculum" in hashed:  # where order means something: stages follow, the first glob wins
        for stage in hashed["curriculum"]["stages"].values():
            stage |= {key: list(stage[key].items()) for key in ("lr", "weight_decay") if key in stage}
        hashed["curriculum"]["stages"] = list(hashed["curriculum"]["stages"].items())
    text = json.dumps(hashed, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.blake2s(text.encode(), digest_size=5).hexdigest()
