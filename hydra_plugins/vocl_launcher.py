"""Hydra's door to the same core as `vocl submit`, for sweepers: `-m hydra/sweeper=... cluster=...`.

Hydra finds launchers only in this namespace. A sweeper that steers by the scores needs
`cluster.wait=true`; its objective is `hydra.launcher.metric` of each run's first evaluation.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from vocl.errors import UserError

CONF = {"_target_": "hydra_plugins.vocl_launcher.VoclLauncher", "metric": "video_fg_ari"}
ConfigStore.instance().store(group="hydra/launcher", name="vocl", node=CONF, provider="vocl")


class VoclLauncher(Launcher):
    """Composes, checks and submits a batch of jobs; returns their scores if it was to wait for them."""

    def __init__(self, metric: str) -> None:
        self.metric = metric

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Nothing to set up: jobs run `vocl.train`, not the task function."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """One run per list of overrides; runs that are done already are not trained again."""
        from launch.plan import select_jobs
        from launch.submit import submit

        selection = select_jobs(job_overrides)
        submit(selection, ("absent", "interrupted"))
        return [
            self._returned(selection, spec, list(each))
            for spec, each in zip(selection.specs, job_overrides, strict=True)
        ]

    def _returned(self, selection: Any, spec: Any, overrides: list[str]) -> JobReturn:
        result = selection.root / "runs" / spec.id / "result.json"
        returned = JobReturn(overrides=overrides, working_dir=str(result.parent))
        if result.is_file():
            metrics = json.loads(result.read_text())["metrics"]
            if self.metric not in metrics:
                raise UserError(
                    f"hydra.launcher.metric={self.metric}: not scored, choose from {', '.join(metrics)}"
                )
            returned.status, returned.return_value = JobStatus.COMPLETED, metrics[self.metric]
        elif spec.config["cluster"]["kind"] == "slurm" and not spec.config["cluster"]["wait"]:
            returned.status, returned.return_value = JobStatus.COMPLETED, None  # queued: that was the job
        else:
            returned.status = JobStatus.FAILED
            returned.return_value = RuntimeError(f"run {spec.id} is not done: vocl why {spec.id}")
        return returned
