"""Running the evaluations of a run and keeping what they say beside it."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch

from vocl import assemble, dist
from vocl.config import folders, identity
from vocl.config.run_config import RunConfig, values
from vocl.data.served import Served
from vocl.evaluate.code import code_digest
from vocl.evaluate.guard import Failure, run_guarded
from vocl.evaluate.masks.kept import Keep, KeptModel, UnseenSource, keeper
from vocl.files import write_json
from vocl.interface import Measure, Report, Source, Subject, VideoModel
from vocl.ops.narrow import pair
from vocl.ops.random import seed_of
from vocl.rundir.result import ENTRY
from vocl.rundir.run_dir import EVALUATIONS, ROWS, RunDir

EvaluationEntry = dict[str, Any]
MASKS = "masks"  # the folder of kept ones, in that of their evaluation
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
                subject_of(config, name, model, device, advance, place.keeper),
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


def subject_of(
    config: RunConfig,
    name: str,
    model: VideoModel,
    device: torch.device,
    advance: Callable[[], Any],
    keep: Keep | None = None,
    opened: Callable[[str], tuple[str, Source]] | None = None,
) -> Subject:
    """What the evaluation `name` of `config` is given. `opened`: the split that stands for another, and its
    videos; None: each stands for itself."""

    def source(split: str) -> Source:
        split, plain = opened(split) if opened else (split, assemble.make_source(config, split, name))
        needs = assemble.clip_needs(config, model, training=False)
        cache = assemble.feature_cache(config, plain, split, model, device, False, name)
        return Served(plain, needs, cache)

    return Subject(
        model=model,
        dataset=assemble.make_dataset(config, name),
        source=functools.cache(source),
        device=device,
        keep=keep,
        advance=advance,
    )


def rescore(
    config: RunConfig, name: str, kept: Mapping[str, Any], run: RunDir, advance: Callable[[], Any]
) -> Evaluated:
    """Run the evaluation `name` of `config` on the masks that one of the same checkpoint kept; `kept` is the
    record of that one. No model is made."""
    place = _Place(config, name, kept["checkpoint"], run)
    stored, _ = place.stored("stored")
    if stored is None:
        evaluation, dataset = assemble.make_evaluation(config, name), assemble.make_dataset(config, name)
        masks = run.evaluations / kept["eval_id"] / MASKS
        seed = kept["eval"]["options"]["seed"]
        subject = Subject(
            model=KeptModel(masks, pair(dataset.size_px), seed),
            dataset=dataset,
            source=lambda split: UnseenSource(assemble.make_source(config, split, name)),
            device=torch.device("cpu"),
            advance=advance,
        )
        report = run_guarded(evaluation, subject, seed_of(config.seed, "evaluation", name))
        if isinstance(report, Failure):
            place.keep_failure(report)
            return Evaluated(failed={name: report.line})
        stored = place.keep(report, {"masks_of": kept["eval_id"]})
    return Evaluated(entries={name: stored})


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

    @property
    def keeper(self) -> Keep | None:
        """What keeps masks, where runtime.keep_masks asks for it."""
        return keeper(self._masks) if self._masks else None

    def keep(self, report: Report, more: Mapping[str, Any] = MappingProxyType({})) -> EvaluationEntry:
        """Write `report` and what `more` there is to say of it, on the first rank; returns its entry in the
        result."""
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
            write_json(self.folder / "report.json", self.identity | entry | {"code": self.code, **more})
            (self.folder / "failed.json").unlink(missing_ok=True)
        return entry

    def keep_failure(self, failure: Failure) -> None:
        """Write why there is no report, on the first rank."""
        if dist.rank() == 0:
            facts = asdict(failure) | {"time": time.time(), "code": self.code}
            write_json(self.folder / "failed.json", self.identity | facts)

    @property
    def _masks(self) -> Path | None:
        return self.folder / MASKS if self.config.runtime.keep_masks else None
