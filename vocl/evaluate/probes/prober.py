"""Probes: a few dev videos that are scored while a run trains, so that nobody is blind until its end."""

from __future__ import annotations

import functools
import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch

from vocl import assemble, dist
from vocl.config.run_config import RunConfig
from vocl.errors import UserError
from vocl.evaluate.guard import Failure, run_guarded
from vocl.evaluate.probes.chosen import choose, headline
from vocl.evaluate.probes.few import FewVideos
from vocl.evaluate.store import subject_of
from vocl.interface import Measure, Report, Source
from vocl.ops.random import seed_of
from vocl.rundir.attempt_events import ProbeScore
from vocl.rundir.run_dir import RunDir
from vocl.tracking.drawing import Sketch
from vocl.trainer import Trainer

logger = logging.getLogger(__name__)


class Prober:
    """Scores the first runtime.probe_videos dev videos by an evaluation of `config`, and tells what it says.

    It changes nothing of the training: what it touches is as before when it is over, and it fails alone.
    All ranks share the scoring; the first one tells, draws (by `sketch`, if given) and keeps the best.
    `advance` is called by every rank equally often and may raise `Stopped`.
    """

    def __init__(
        self,
        config: RunConfig,
        run: RunDir,
        trainer: Trainer,
        advance: Callable[[], Any],
        sketch: Sketch | None = None,
    ) -> None:
        self.config, self.run, self.trainer = config, run, trainer
        self.advance, self.sketch = advance, sketch
        self.chosen = choose(config)
        self.opened = functools.cache(self._opened)
        if dist.rank() == 0:
            self._introduce()

    def __call__(self, step: int) -> None:
        """Probe the model as it is after `step` steps."""
        name, began = self.chosen.name, time.monotonic()
        model, device = self.trainer.model, self.trainer.device
        with _undisturbed(device):
            report = run_guarded(
                assemble.make_evaluation(self.config, name),
                subject_of(self.config, name, model, device, self.advance, opened=self.opened),
                seed_of(self.config.seed, "evaluation", name),
            )
            if dist.rank() == 0:
                with _told(f"probe at step {step}"):
                    self._tell(step, report, began)
        dist.barrier()

    def _opened(self, split: str) -> tuple[str, Source]:
        """The split that is read instead of `split`, and its few videos."""
        split = self.chosen.of if split == self.chosen.instead else split
        source = assemble.make_source(self.config, split, self.chosen.name)
        return split, FewVideos(source, self.config.runtime.probe_videos)

    def _introduce(self) -> None:
        runtime, chosen = self.config.runtime, self.chosen
        told = "every %d steps eval.%s is asked on up to %d videos of split %s%s"
        trained = ", which are trained on" if self._are_trained_on() else ""
        logger.info(told, runtime.probe_every, chosen.name, runtime.probe_videos, chosen.of, trained)
        if runtime.probe_best and chosen.of == chosen.instead:
            logger.warning(
                "runtime.probe_best: there is no split dev, so the best checkpoint is chosen on videos that "
                "eval.%s scores at the end",
                chosen.name,
            )

    def _are_trained_on(self) -> bool:
        """Whether the run trains on some of the videos, as on those that were cut from the training split."""
        training = self.trainer.source
        if training is None or self.config.eval[self.chosen.name].dataset is not None:
            return False
        with suppress(UserError, OSError):
            _, source = self.opened(self.chosen.instead)
            few = {source[i].name for i in range(len(source))}
            return any(training[i].name in few for i in range(len(training)))
        return False

    # ------------------------------------------------------------- on the first rank, what came of it

    def _tell(self, step: int, report: Report | Failure, began: float) -> None:
        name, wanted = self.chosen.name, self.chosen.score
        if isinstance(report, Failure):
            raise UserError(f"eval.{name}: {report.line}")
        if not report.metrics or (wanted and wanted not in report.metrics):
            raise UserError(f"eval.{name}: gave no {wanted or 'score'}, but {', '.join(report.metrics)}")
        metric = wanted or headline(report.metrics)
        score = report.metrics[metric]
        newest = ProbeScore(step, f"{name}/{metric}", score if abs(score) < float("inf") else None)
        with _told(f"picture of the probe at step {step}"):
            self._draw(newest)
        seconds = time.monotonic() - began
        told = "step %d: %s %.4g on %d videos of split %s, in %.1f s"
        logger.info(told, step, newest.metric, score, len(report.rows), self.chosen.of, seconds)
        self.trainer.track.probe(newest, {f"{name}/{k}": v for k, v in report.metrics.items()}, seconds)
        if self.config.runtime.probe_best:
            with _told(f"best checkpoint after the probe at step {step}"):
                self._keep_best(newest, len(report.rows), report.measures.get(metric, Measure()))

    def _draw(self, newest: ProbeScore) -> None:
        """Replace the picture of the last probe by one of the first video."""
        _, source = self.opened(self.chosen.instead)
        if self.sketch is None or not len(source):
            return
        video, model, device = source[0], self.trainer.model, self.trainer.device
        dataset = assemble.make_dataset(self.config, self.chosen.name)
        score = "undefined" if newest.score is None else f"{newest.score:.3f}"
        title = f"step {newest.step}   {newest.metric} {score}   {video.name}"
        self.sketch(model, video, source.truth(video.name), dataset, device, self.run.probe_picture, title)

    def _keep_best(self, newest: ProbeScore, number: int, measure: Measure) -> None:
        if measure.higher_is_better is None:
            raise UserError(f"runtime.probe_metric: of {newest.metric} neither more nor less is better")
        if newest.score is None:
            return
        scored = {
            "metric": newest.metric,
            "split": self.chosen.of,
            "videos": number,
            "eval": self.config.eval[self.chosen.name].content,
        }
        before = self.trainer.checkpoints.best_record()
        if before is not None and before["scored"] == scored:
            gain = newest.score - before["score"]
            if (gain if measure.higher_is_better else -gain) <= 0:
                return
        state = self.trainer.state(newest.step)
        self.trainer.checkpoints.save_best(newest.step, state, newest.score, scored)


@contextmanager
def _told(what: str) -> Iterator[None]:
    """What fails within the block is told in a line, and the run goes on."""
    try:
        yield
    except (Exception, SystemExit) as error:
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        logger.warning("no %s: %s%s; the training is not affected", what, kind, error)


@contextmanager
def _undisturbed(device: torch.device) -> Iterator[None]:
    """Within the block no gradient is recorded; all random numbers go on as before afterwards."""
    plain, of_numpy = random.getstate(), np.random.get_state()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(plain)
        np.random.set_state(of_numpy)
