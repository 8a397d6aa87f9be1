"""The config of a run as its job will read it."""

from __future__ import annotations

from vocl.config.schema import Config
from vocl.files import user_path
from vocl.rundir.run_dir import RunDir

PATHS = ("root", "data_root", "weights_root")  # of runtime; a job starts in another folder


def freeze(run: RunDir, config: Config, project: str | None = None) -> None:
    """Save the config that the job will run as it stands: it composes nothing."""
    runtime = {**config["runtime"], "progress": False}
    runtime |= {key: str(user_path(runtime[key]).absolute()) for key in PATHS}
    config = {
        **config,
        "runtime": runtime,
        "cluster": {**config["cluster"], "kind": "here"},
        "project": project,
    }
    run.write_config(config)
