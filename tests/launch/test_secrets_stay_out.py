"""No verb that writes records takes a secret on its command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from launch.cli import main

KEY = "0123456789abcdef0123456789abcdef01234567"


def _holders(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    ("override", "place"),
    [
        (f"cluster.setup=['module load cuda','export WANDB_API_KEY={KEY}']", "cluster.setup[1]"),
        (f"cluster.container='apptainer exec --env WANDB_API_KEY={KEY} x.sif'", "cluster.container"),
        (f"+cluster.sbatch.export='ALL,WANDB_API_KEY={KEY}'", "cluster.sbatch.export"),
    ],
)
@pytest.mark.parametrize("verb", ["submit", "plan"])
def test_a_secret_in_a_cluster_is_refused_before_anything_is_written(
    tmp_path, slurm, capsys, verb: str, override: str, place: str
) -> None:
    root = tmp_path / "results"
    assert main([verb, "seed=0", f"runtime.root={root}", "cluster=slurm", override]) == 2
    error = capsys.readouterr().err
    assert place in error and error.count("\n") == 1 and KEY not in error
    assert not _holders(tmp_path)


def test_a_secret_for_a_retry_is_refused(sweep, capsys) -> None:
    it = sweep()
    it.lost(it.ids[0], "PREEMPTED")
    before = len(it.slurm.calls)
    words = [f"cluster.setup=['export WANDB_API_KEY={KEY}']", f"runtime.root={it.root}"]
    assert main(["retry", "duo", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("cluster.setup[0]: ") and KEY not in error
    assert not _holders(it.root)
    assert not [call for call in it.slurm.calls[before:] if call[0] == "sbatch"]
