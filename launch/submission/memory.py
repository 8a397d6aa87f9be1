"""What training steps take of a GPU, found without one in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from launch.escape import one_line
from launch.selection.plan import Spec
from vocl.config.cluster import SlurmCluster
from vocl.rundir.run_dir import CONFIG

FIND = (sys.executable, "-m", "vocl.commands.memory")


def told(specs: Sequence[Spec]) -> Iterator[str]:
    """A line per stage of each cell of `specs`, and warnings of what no GPU of its cluster can hold."""
    cells: dict[str, Spec] = {}
    for spec in specs:
        cells.setdefault(spec.cell, spec)
    for spec in cells.values():
        cell = one_line(", ".join(part for part in (spec.row, spec.column) if part) or spec.id)
        cluster = spec.config.cluster
        processes, limit_gb = 1, None
        if isinstance(cluster, SlurmCluster):
            processes, limit_gb = cluster.nodes * cluster.tasks, cluster.gpu_mem_gb
        stages, trouble = _stages(spec, processes, limit_gb)
        if trouble:
            yield f"warning: {cell}: its memory is not known: {one_line(trouble)}"
        for stage in stages:
            peak_gb, weights_gb = stage["peak"] / 1e9, stage["weights"] / 1e9
            batch = f"{stage['clips']} clips of {stage['frames']} frames"
            need = f"{peak_gb:.1f} GB for {batch}, {weights_gb:.1f} of them weights"
            yield f"memory: {cell}: stage {stage['stage']}: {need}"
        peak_gb = max((stage["peak"] / 1e9 for stage in stages), default=0.0)
        if limit_gb is not None and peak_gb > limit_gb:
            yield f"warning: {cell}: needs {peak_gb:.1f} GB of a GPU, and cluster.gpu_mem_gb={limit_gb:g}"


def _stages(spec: Spec, processes: int, gpu_gb: float | None) -> tuple[list[dict[str, Any]], str]:
    """The stages of `spec` as `vocl.commands.memory` prints them, or none and why."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / CONFIG
        path.write_text(yaml.safe_dump(spec.config.content))
        words = [str(path), str(processes), *([str(gpu_gb)] if gpu_gb is not None else [])]
        done = subprocess.run([*FIND, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        return [], (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return json.loads(done.stdout.splitlines()[-1]), ""
