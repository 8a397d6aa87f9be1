"""What a tracker is told of a run: its name, its config without places, its scores."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

from vocl.config import schema
from vocl.config.wandb_names import fitting
from vocl.rundir.of_config import cell_of
from vocl.rundir.result import Result
from vocl.rundir.results_root import root_of
from vocl.rundir.run_dir import RunDir
from vocl.tracking.client import Opened


def opened(run: RunDir, config: schema.Config) -> Opened:
    """What names the run `run`, whose saved config is `config`."""
    start: dict[str, Any] = next(reversed(run.starts()), {})
    version = {key: start.get(key) for key in ("code", "commit", "libraries", "device")}
    told = identifying(config) | {"version": version}
    return Opened(id=run.id, name=name(run, config), group=cell_of(config), config=told)


def name(run: RunDir, config: schema.Config) -> str:
    """ablation/row/column/seed as `vocl submit` has linked it, else model, data and seed."""
    root = root_of(run).by_name
    for link in sorted(root.rglob("s*")):  # the name of an ablation may have slashes
        if link.is_symlink() and os.path.basename(os.readlink(link)) == run.id:
            return fitting(link.relative_to(root).as_posix())
    model = config["model"]["_target_"].rpartition(".")[2]
    return fitting(f"{model} {config['dataset']['name']} s{config['seed']}")


def identifying(config: schema.Config) -> dict[str, Any]:
    """What identifies the run and how it is evaluated; places stay at home."""
    return {key: config.get(key) for key in (*schema.HASHED, "eval")}


def scores(result: Result) -> dict[str, Any]:
    """{<evaluation>/<metric>: score} of every evaluation, the names of those that failed, and what the run
    took."""
    named = {f"{n}/{k}": v for n, entry in result.evals.items() for k, v in entry["metrics"].items()}
    failed = {"failed_evaluations": ", ".join(result.failed)} if result.failed else {}
    return named | failed | {key: getattr(result, key) for key in ("attempts", "wall_s", "gpu_hours")}


def digest(result: Result) -> str:
    """Names a state of all the scores of a result, which `vocl eval` may change later."""
    content = [{name: entry["metrics"] for name, entry in result.evals.items()}, result.failed or None]
    text = json.dumps(content, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def outcome(run: RunDir) -> str:
    """How its last attempt ended."""
    ends = [p for p in run.events.glob("*.json") if not p.stem.endswith("start")]
    return max(ends).stem.split("-")[1] if ends else "killed"
