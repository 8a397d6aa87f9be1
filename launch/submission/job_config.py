"""The config of a run as its job will read it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from launch.selection.plan import Spec
from vocl.config.cluster import LocalCluster
from vocl.config.run_config import values
from vocl.files import user_path
from vocl.rundir.run_dir import RunDir

PATHS = ("root", "data_root", "weights_root")  # of runtime; a job starts in another folder
JOB = LocalCluster(kind="here", slots=1, wait=False)  # the process itself, wherever it is


def freeze(run: RunDir, spec: Spec, project: str | None = None) -> None:
    """Save the config that the job will run as it stands: it composes nothing."""
    paths: dict[str, Any] = {
        key: str(user_path(getattr(spec.config.runtime, key)).absolute()) for key in PATHS
    }
    runtime = replace(spec.config.runtime, progress=False, **paths)
    own = {"runtime": values(runtime), "cluster": values(JOB), "project": project}
    run.write_config(spec.content | own)
