"""Running the evaluations of a run and keeping what they say beside it."""

from __future__ import annotations

import functools
import hashlib
import io
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from vocl import assemble, dist
from vocl.config import folders, identity
from vocl.config.run_config import RunConfig, values
from vocl.data.served import Served
from vocl.evaluate.code import code_digest
from vocl.evaluate.guard import Failure, run_guarded
from vocl.files import write_bytes, write_json
from vocl.interface import Measure, Report, Source, Subject, VideoModel
from vocl.ops.random import seed_of
from vocl.rundir.result import ENTRY
from vocl.rundir.run_dir import EVALUATIONS, ROWS, RunDir

EvaluationEntry = dict[str, Any]
Reuse = Literal["stored", "same code", "nothing"]  # which stored scores count


@dataclass(frozen=True)
class Evaluated:
    """What the evaluations of a run say, by their names: `entries` as the run's result has them, `failed` why
    one says nothing, `outdated` those whose entry was scored by other code than today's."""

    entries: dict[str, EvaluationEntry] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    outdated: list[str] = field(default_factory=list)


def evaluate(
    config: RunConfig,
    model: VideoModel,
    checkpoint_digest: str,
    run: RunDir,
    device: torch.device,
    advance: Callable[[], Any] = lambda: None,
    reuse: Reuse = "same code",
) -> Evaluated:
    """Run every evaluation of `config.eval` and write them to `<run>/eval/<eval_id>/`.

    An entry is {eval_id, protocol, num_videos, metrics, measures, rows} with `rows` the path of the
    per-video rows inside its folder. `reuse`: whether one that lies there already is run again. One that
    fails leaves failed.json there. `advance` is called by every rank equally often, and may raise to stop.
    """
    found = Evaluated()
    for name in config.eval:
        place = _Place(config, name, checkpoint_digest, run)
        stored, outdated = dist.gather_objects(place.stored(reuse))[0]
        if stored is None:
            report = run_guarded(
                assemble.make_evaluation(config, name),
                place.subject(model, device, advance),
                seed_of(config.seed, "evaluation", name),
            )
            if isinstance(report, Failure):
                place.keep_failure(report)
                found.failed[name] = report.line
                continue
            stored = place.keep(report)
        found.entries[name] = stored
        found.outdated.extend([name] if outdated else [])
    return found


class _Place:
    """Where the scores of one evaluation of a checkpoint lie: its settings, code and results."""

    def __init__(self, config: RunConfig, name: str, checkpoint_digest: str, run: RunDir) -> None:
        self.config, self.name, self.run = config, name, run
        # What decides the scores, and so the id; an evaluation's own randomness is seeded by an option.
        self.identity = {
            "run": config.run_id,
            "checkpoint": checkpoint_digest,
            "eval": config.eval[name].content,
            "dataset": values(config.dataset_of(name)),
        }
        self.code = code_digest(config.eval[name].part, folders.packages(config.project))
        self.folder = run.evaluations / identity.evaluation_id(self.identity)

    def stored(self, reuse: Reuse) -> tuple[EvaluationEntry | None, bool]:
        """The entry that lies here and counts, and whether it is by other code than today's."""
        report = self.run.report(self.folder.name)
        if report is None or reuse == "nothing" or (self._masks and not self._masks.is_dir()):
            return None, False
        outdated = report.get("code") not in (None, self.code)
        entry = {key: report[key] for key in ENTRY if key in report}
        return (None, False) if outdated and reuse == "same code" else (entry, outdated)

    def subject(self, model: VideoModel, device: torch.device, advance: Callable[[], Any]) -> Subject:
        """What the evaluation is given."""

        def source(split: str) -> Source:
            plain = assemble.make_source(self.config, split, self.name)
            needs = assemble.clip_needs(self.config, model, training=False)
            cache = assemble.feature_cache(self.config, plain, split, model, device, False, self.name)
            return Served(plain, needs, cache)

        return Subject(
            model=model,
            dataset=assemble.make_dataset(self.config, self.name),
            source=functools.cache(source),
            device=device,
            keep=_keeper(self._masks) if self._masks else None,
            advance=advance,
        )

    def keep(self, report: Report) -> EvaluationEntry:
        """Write `report`, on the first rank; returns its entry in the result."""
        entry = {
            "eval_id": self.folder.name,
            "protocol": report.protocol,
            "num_videos": len(report.rows),
            "metrics": report.metrics,
            "measures": {n: asdict(m) for n, m in report.measures.items() if m != Measure()},
            "rows": f"{EVALUATIONS}/{self.folder.name}/{ROWS}",
        }
        if dist.rank() == 0:
            write_json(self.folder / ROWS, report.rows)
            # last: its presence is "done"
            write_json(self.folder / "report.json", self.identity | entry | {"code": self.code})
            (self.folder / "failed.json").unlink(missing_ok=True)
        return entry

    def keep_failure(self, failure: Failure) -> None:
        """Write why there is no report, on the first rank."""
        if dist.rank() == 0:
            facts = asdict(failure) | {"time": time.time(), "code": self.code}
            write_json(self.folder / "failed.json", self.identity | facts)

    @property
    def _masks(self) -> Path | None:
        return self.folder / "masks" if self.config.runtime.keep_masks else None


def _keeper(folder: Path) -> Callable[[str, np.ndarray], None]:
    """Writes soft masks (uint8 t k n) as <video>.npz; names of videos may hold slashes."""

    def keep(name: str, masks: np.ndarray) -> None:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, masks=masks)
        safe = name.replace("/", "__")
        if len(safe) > 120:
            safe = hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
        write_bytes(folder / f"{safe}.npz", buffer.getvalue())

    return keep
