"""What a submission would mean: GPU hours, arrays, and cells whose config is no longer what was run."""

from __future__ import annotations

import os
from collections.abc import Sequence

from launch.ablations.ablation import Ablation
from launch.ablations.overrides import slug
from launch.selection.plan import Spec
from launch.submission.enqueue import shapes
from vocl.config.cluster import SlurmCluster
from vocl.config.diff import diff
from vocl.config.run_config import RunConfig
from vocl.config.schema import HASHED
from vocl.rundir.results_root import ResultsRoot
from vocl.rundir.run_dir import CONFIG, RunDir

UNLIMITED = 2**31


def gpu_hours(specs: Sequence[Spec], finished: Sequence[RunDir]) -> tuple[float, int]:
    """(GPU hours that `specs` will take, how many of them are guesses), from the runs `finished`.

    A run takes what finished runs of its cell took on the mean; without any, at most its job's limit.
    """
    known: dict[str, list[float]] = {}
    for run in finished:
        found = run.result_or_none()
        if found is not None and found.cell_id is not None and found.gpu_hours is not None:
            known.setdefault(found.cell_id, []).append(found.gpu_hours)
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


def changed(specs: Sequence[Spec], ablation: Ablation | None, root: ResultsRoot) -> dict[str, list[str]]:
    """Label of each cell whose run of last time had another id -> the keys that differ."""
    if ablation is None:
        return {}
    found: dict[str, list[str]] = {}
    for spec in specs:
        link = root.by_name / ablation.name / slug(spec.row) / slug(spec.column) / f"s{spec.seed}"
        if link.is_symlink() and os.path.basename(os.readlink(link)) != spec.id:
            found[spec.label] = _differences(RunDir(link), spec.config)
    return found


def _differences(run: RunDir, config: RunConfig) -> list[str]:
    if not run.path.is_dir():
        return ["its folder is gone"]
    before = run.config_unchecked()
    if not before:
        return [f"its {CONFIG} cannot be read"]
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
