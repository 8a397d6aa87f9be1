"""Hydra's door to the same core as `vocl submit`, for sweepers: `-m hydra/sweeper=... cluster=...`.

Hydra finds launchers only in this namespace. A sweeper that steers by the scores needs
`cluster.wait=true`; its objective is `hydra.launcher.metric`: <evaluation>/<metric>, or the bare name of a
metric of the first evaluation that has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from vocl.commands import launching
from vocl.errors import UserError
from vocl.files import make_folder
from vocl.rundir import result

CONF = {"_target_": "hydra_plugins.vocl_launcher.VoclLauncher", "metric": "video_fg_ari"}
ConfigStore.instance().store(group="hydra/launcher", name="vocl", node=CONF, provider="vocl")


class VoclLauncher(Launcher):
    """Composes, checks and submits a batch of jobs; returns their scores if it was to wait for them."""

    def __init__(self, metric: str) -> None:
        self.metric = metric

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Jobs run `vocl.train`, not the task function; sweepers expect that their folder is made."""
        self.folder = Path(str(config.hydra.sweep.dir))

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """One run per list of overrides; runs that are done already are not trained again."""
        selection = launching.module("selection.plan").select_jobs(job_overrides)
        try:
            make_folder(self.folder)
        except OSError as error:
            raise UserError(f"hydra.sweep.dir={self.folder}: cannot write there: {error.strerror}") from None
        launching.module("commands.submit").submit(selection, ("absent", "interrupted"))
        return [
            self._returned(selection, spec, list(each))
            for spec, each in zip(selection.specs, job_overrides, strict=True)
        ]

    def _returned(self, selection: Any, spec: Any, overrides: list[str]) -> JobReturn:
        run = selection.root.run(spec.id)
        returned = JobReturn(overrides=overrides, working_dir=str(run))
        if done := run.result_or_none():
            found = result.find_score(done.evals, self.metric)
            bare = found is not None and found[1] == self.metric
            if done.failed and (found is None or bare):  # whose score the name means is not known
                returned.status = JobStatus.FAILED
                told = f"run {spec.id}: evaluation {', '.join(done.failed)} failed: vocl eval {spec.id}"
                returned.return_value = RuntimeError(told)
                return returned
            if found is None:
                choices = ", ".join(done.scores) or "none"
                raise UserError(f"hydra.launcher.metric={self.metric}: not scored, choose from {choices}")
            name, metric = found
            returned.status = JobStatus.COMPLETED
            returned.return_value = done.evals[name]["metrics"][metric]
        elif spec.config.cluster.kind == "slurm" and not spec.config.cluster.wait:
            returned.status, returned.return_value = JobStatus.COMPLETED, None  # queued: that was the job
        else:
            returned.status = JobStatus.FAILED
            returned.return_value = RuntimeError(f"run {spec.id} is not done: vocl why {spec.id}")
        return returned
