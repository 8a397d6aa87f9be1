"""The config of a run as its job will read it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from launch.selection.plan import Spec
from vocl.config.run_config import values
from vocl.config.sections import LocalCluster
from vocl.files import user_path, write_text

PATHS = ("root", "data_root", "weights_root")  # of runtime; a job starts in another folder
JOB = LocalCluster(kind="here", slots=1, wait=False)  # the process itself, wherever it is


def freeze(folder: Path, spec: Spec, project: str | None = None) -> None:
    """Save the config that the job will run as it stands: it composes nothing."""
    paths: dict[str, Any] = {
        key: str(user_path(getattr(spec.config.runtime, key)).absolute()) for key in PATHS
    }
    runtime = replace(spec.config.runtime, progress=False, **paths)
    own = {"runtime": values(runtime), "cluster": values(JOB), "project": project}
    write_text(folder / "config.yaml", yaml.safe_dump(spec.content | own, sort_keys=False))
