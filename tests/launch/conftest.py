from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
import run_records
from acting import Sweep
from fake_slurm import FakeSlurm

from launch.cli import main
from launch.run_states import remembered
from launch.selection.plan import Spec, select


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test here cuts the power: syncing the hundreds of files of each snapshot would only take time."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def declare(tmp_path: Path) -> Callable[..., str]:
    """Writes conf/ablation/NAME.yaml of a project folder; returns its project=PATH override."""
    folder = tmp_path / "project"
    package = (
        folder / f"outside_{uuid.uuid4().hex}"
    )  # a name per test: building a model keeps its folder on sys.path
    package.mkdir(parents=True)
    (package / "__init__.py").touch()

    def write(text: str = run_records.TRIO, name: str = "trio") -> str:
        path = folder / "conf" / "ablation" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return f"project={folder}"

    return write


@pytest.fixture
def finish() -> Callable[..., None]:
    """Writes the record of a finished run."""

    def write(
        spec: Spec, root: Path, protocol: str = "vocl", code: str = "abc", **metrics: float | None
    ) -> None:
        folder = root / "runs" / spec.id
        folder.mkdir(parents=True, exist_ok=True)
        entry = {"eval_id": "0" * 10, "protocol": protocol, "num_videos": 2, "metrics": metrics, "rows": "x"}
        result = {
            "run_id": spec.id,
            "metrics": metrics,
            "evals": {"discovery": entry},
            "wall_s": 3.5,
            "code": code,
        }
        (folder / "result.json").write_text(json.dumps(result))

    return write


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    """SLURM's commands, made up."""
    fake = FakeSlurm(tmp_path / "slurm")
    fake.install(monkeypatch)
    return fake


@pytest.fixture
def sweep(slurm: FakeSlurm, declare: Callable[..., str], tmp_path: Path) -> Callable[..., Sweep]:
    """Submits a table of two rows, two seeds on the made-up SLURM."""

    def submit(*overrides: str) -> Sweep:
        text = "rows: {none: {loss: [feature_mse]}, batch: {}}\nseeds: [0, 1]\nmetrics: [video_mbo]"
        root = tmp_path / "results"
        arguments = ["duo", declare(text, "duo"), f"runtime.root={root}", "cluster=slurm", *overrides]
        main(["submit", *arguments])
        plain = [a for a in arguments if not a.startswith("--")]
        return Sweep(root, slurm, plain, [spec.id for spec in select(plain).runs])

    return submit


@pytest.fixture
def recorded(tmp_path: Path, slurm: FakeSlurm) -> run_records.Sweep:
    """Six runs of an ablation in all the states that boards tell apart, by their records alone."""
    return run_records.six_runs(tmp_path / "results", slurm)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the cache, which is made of however few runs."""
    monkeypatch.setattr(remembered, "FEW", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "vocl"
