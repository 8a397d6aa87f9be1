"""A released checkpoint as a run folder under `runtime.root`, and its scores."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from vocl import assemble
from vocl.config.run_config import RunConfig
from vocl.errors import UserError
from vocl.evaluate.store import EvaluationEntry, evaluate
from vocl.files import user_path
from vocl.loading import load_run, pick_device
from vocl.reference.importer import import_checkpoint
from vocl.rundir.provenance import code_digest
from vocl.rundir.run_dir import RunDir


@dataclass(frozen=True)
class Scored:
    """Scores of an imported file: the run folder that it became, and what each evaluation says."""

    run: RunDir
    sha256: str
    device: str
    entries: dict[str, EvaluationEntry]

    @property
    def metrics(self) -> dict[str, float | None]:
        """Scores by `<evaluation>/<metric>`, and by the bare name, which means the first that has it."""
        named = {f"{n}/{key}": v for n, entry in self.entries.items() for key, v in entry["metrics"].items()}
        bare: dict[str, float | None] = {}
        for entry in self.entries.values():
            bare = entry["metrics"] | bare
        return bare | named


def score_checkpoint(
    method: ModuleType, source: Path, config: RunConfig, advance: Callable[[], Any] = lambda: None
) -> Scored:
    """Import the file `source` with `method`'s names into the model of `config`, and score it.

    The run folder is <root>/imported/<method>/<run id>-<digest of the file>: not among the runs, whose
    ids say what was trained here. One that is there is not imported again. Scores lie in its
    verified/<code digest>, so that other code scores anew. Raises `UserError` for a missing file, data
    that is not there and a file that does not fit, before it writes anything.
    """
    if not source.is_file():
        raise UserError(f"{source}: no such checkpoint file")
    if config.runtime.threads:
        torch.set_num_threads(config.runtime.threads)
    device = pick_device(config.runtime.device)
    assemble.check_evaluations(config)
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    name = method.__name__.rpartition(".")[2]
    root = user_path(config.runtime.root)
    run = RunDir(root / "imported" / name / f"{config.run_id}-{digest[:10]}")
    if not run.has_config():
        import_checkpoint(method, source, run.path, config)
    loaded = load_run(run, config, device=str(device))
    place = RunDir(run.path / "verified" / code_digest(config.project))
    found = evaluate(config, loaded.model, loaded.checkpoint.digest, place, device, advance)
    for failed, why in found.failed.items():
        raise UserError(f"eval.{failed}: {why}; see {place.evaluations}")
    return Scored(run, digest, str(device), found.entries)
