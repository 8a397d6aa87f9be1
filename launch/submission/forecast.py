"""What a submission would mean: GPU hours, arrays, and cells whose config is no longer what was run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from launch.ablations.ablation import Ablation
from launch.ablations.overrides import slug
from launch.selection.plan import Spec
from launch.submission.enqueue import shapes
from vocl.config.diff import diff
from vocl.config.run_config import RunConfig
from vocl.config.schema import HASHED
from vocl.config.sections import SlurmCluster
from vocl.files import NUMBER, Kinds, holds
from vocl.rundir import result
from vocl.rundir.saved_config import config_of_today

UNLIMITED = 2**31
FACTS: Kinds = {"cell_id": str, "gpu_hours": NUMBER}


def gpu_hours(specs: Sequence[Spec], finished: Sequence[Path]) -> tuple[float, int]:
    """(GPU hours that `specs` will take, how many of them are guesses), from the folders `finished`.

    A run takes what finished runs of its cell took on the mean; without any, at most its job's limit.
    """
    known: dict[str, list[float]] = {}
    for folder in finished:
        found = result.read_or_none(folder)
        if holds(found, FACTS):
            known.setdefault(found["cell_id"], []).append(found["gpu_hours"])
    hours, guesses = 0.0, 0
    for spec in specs:
        cluster = spec.config.cluster
        if spec.cell in known:
            hours += sum(known[spec.cell]) / len(known[spec.cell])
        elif isinstance(cluster, SlurmCluster):
            guesses += 1
            hours += cluster.gpus * cluster.nodes * cluster.time_min / 60 / cluster.runs_per_job
    return hours, guesses


def arrays(specs: Sequence[Spec], size: int = UNLIMITED) -> list[str]:
    """A line per array that `specs`, which go to SLURM, would be queued in; `size`: the most elements."""
    lines = []
    for cluster, group in shapes(specs):
        elements = -(-len(group) // cluster.runs_per_job)
        packed = f" of {cluster.runs_per_job} runs each" if cluster.runs_per_job > 1 else ""
        number = -(-elements // size)
        lines.append(
            f"{number} {'array' if number == 1 else 'arrays'}, {elements} jobs{packed}: {_shape(cluster)}"
        )
    return lines


def changed(specs: Sequence[Spec], ablation: Ablation | None, root: Path) -> dict[str, list[str]]:
    """Label of each cell whose run of last time had another id -> the keys that differ."""
    if ablation is None:
        return {}
    found: dict[str, list[str]] = {}
    for spec in specs:
        link = root / "by-name" / ablation.name / slug(spec.row) / slug(spec.column) / f"s{spec.seed}"
        if link.is_symlink() and os.path.basename(os.readlink(link)) != spec.id:
            found[spec.label] = _differences(link, spec.config)
    return found


def _differences(folder: Path, config: RunConfig) -> list[str]:
    if not folder.is_dir():
        return ["its folder is gone"]
    before = config_of_today(folder)
    if not before:
        return ["its config.yaml cannot be read"]
    now = config.content
    return diff({key: before.get(key) for key in HASHED}, {key: now[key] for key in HASHED})


def _shape(cluster: SlurmCluster) -> str:
    """What one job asks for."""
    words = [f"{cluster.gpus} GPUs" if cluster.gpus != 1 else "1 GPU", f"{cluster.cpus} CPUs"]
    words += [f"{cluster.mem_gb:g} GB"] if cluster.mem_gb else []
    words += [f"{cluster.nodes} nodes"] if cluster.nodes > 1 else []
    words += [f"{cluster.tasks} tasks"] if cluster.tasks > 1 else []
    words += [f"partition {cluster.partition}"] if cluster.partition else []
    return ", ".join([*words, f"{cluster.time_min} minutes"])
