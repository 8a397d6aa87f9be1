"""What runs will need and do not find here, told without torch and before anything starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from launch.plan import Spec
from vocl.config import Config, needs_weights


def warnings(specs: Sequence[Spec]) -> list[str]:
    """One line per thing that is missing, whatever the number of runs that need it."""
    return list(dict.fromkeys(line for spec in specs for line in missing(spec.config)))


def missing(config: Config) -> list[str]:
    """Data folder and weights file of `config` that are not there."""
    runtime, lines = config["runtime"], []
    dataset, source = config["dataset"]["name"], config["dataset"]["source"]
    data = Path(runtime["data_root"]).expanduser() / source.get("name", dataset)
    target = source["_target_"]  # a project's own source knows itself what it needs
    reads_files = target.startswith("vocl.") and not target.startswith("vocl.data.sources.synthetic.")
    if reads_files and not data.is_dir():
        lines.append(f"dataset {dataset}: no folder {data} (runtime.data_root={runtime['data_root']})")
    if needs_weights(config):
        name = config["backbone"]["name"]
        weights = Path(runtime["weights_root"]).expanduser() / f"{name}.safetensors"
        if not weights.is_file():
            lines.append(f"backbone {name}: no file {weights}; with network: vocl fetch {name}")
    return lines
