"""What runs will need and do not find here, found without torch and before anything starts."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from launch.selection.plan import Spec
from vocl.config.check import weights_source
from vocl.config.cluster import SlurmCluster
from vocl.config.run_config import RunConfig
from vocl.config.sections import DatasetSection
from vocl.files import user_path
from vocl.tracking import mirror

ROOM_GB = 1.0


def warnings(specs: Sequence[Spec]) -> list[str]:
    """One line per thing that is missing, whatever the number of runs that need it."""
    return list(dict.fromkeys(line for spec in specs for line in missing(spec.config)))


def missing(config: RunConfig) -> list[str]:
    """What `config` needs and does not find: data, weights, room, a GPU for its precision, its env_file,
    its tracker."""
    return [*_inputs(config), *_room(config), *_precision(config), *_secrets(config), *_tracker(config)]


def _secrets(config: RunConfig) -> list[str]:
    """An env_file that is not there, or that others may read."""
    name = config.cluster.env_file if isinstance(config.cluster, SlurmCluster) else None
    if not name:
        return []
    file = user_path(name)
    if not file.is_file():
        return [f"cluster.env_file={name}: no such file"]
    return (
        [f"cluster.env_file={name}: others may read it; chmod 600 {file}"]
        if file.stat().st_mode & 0o077
        else []
    )


def _tracker(config: RunConfig) -> list[str]:
    return mirror.missing(config.runtime.tracking)


def _room(config: RunConfig) -> list[str]:
    root = user_path(config.runtime.root).absolute()
    place = next((folder for folder in (root, *root.parents) if folder.is_dir()), Path("/"))
    free_gb = shutil.disk_usage(place).free / 1e9
    if free_gb >= ROOM_GB:
        return []
    return [f"runtime.root={config.runtime.root}: {free_gb:.1f} GB free, less than {ROOM_GB} GB"]


def _precision(config: RunConfig) -> list[str]:
    precision, cluster = config.train.precision, config.cluster
    if isinstance(cluster, SlurmCluster):
        has_gpu, asked = cluster.gpus > 0 or bool(cluster.gres), f" (cluster.gpus={cluster.gpus})"
    else:
        has_gpu, asked = Path("/dev/nvidiactl").exists(), " on this machine"
    if precision in ("fp32", "bf16", "fp8") or has_gpu:
        return []
    return [f"train.precision={precision}: needs a GPU, but there is none{asked}"]


def _inputs(config: RunConfig) -> list[str]:
    own = (evaluation.dataset for evaluation in config.eval.values())
    datasets = [config.dataset, *(dataset for dataset in own if dataset is not None)]
    lines = [line for dataset in datasets for line in _data(dataset, config.runtime.data_root)]
    source = weights_source(config)
    if source is not None:
        name, (file, hub) = config.backbone["name"], source
        weights = user_path(config.runtime.weights_root) / file.format(name=name)
        how = f"with network: vocl fetch {name}" if hub == "timm" else f"download it from {hub}"
        if not weights.is_file():
            lines.append(f"backbone {name}: no file {weights}; {how}")
    return lines


def _data(dataset: DatasetSection, data_root: str) -> list[str]:
    name, source = dataset.name, dataset.source
    folder = user_path(data_root) / source.get("name", name)
    target = source["_target_"]  # a project's own source knows itself what it needs
    reads_files = target.startswith("vocl.") and not target.startswith("vocl.data.sources.synthetic.")
    if not reads_files or folder.is_dir():
        return []
    return [f"dataset {name}: no folder {folder} (runtime.data_root={data_root})"]
