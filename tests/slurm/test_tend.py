"""`vocl tend` on a real SLURM: what it ends for good, and what its limits keep out."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cluster import TestCluster

from launch.states import look
from vocl import claims

TINY = (
    "experiment=slotcontrast/synthetic",
    "debug=tiny",
    "cluster=slurm",
    "cluster.gpus=0",
    "cluster.cpus=1",
)
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def vocl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs a verb against a cluster; returns what it printed."""

    def run(cluster: TestCluster, *words: str, code: int = 0) -> str:
        monkeypatch.setenv("SLURM_CONF", cluster.env["SLURM_CONF"])
        environment = cluster.env | {"PYTHONPATH": str(REPOSITORY), "PATH": os.environ["PATH"]}
        command = [sys.executable, "-m", "launch.cli", *words, f"runtime.root={tmp_path}/r"]
        done = cluster.run(*command, env=environment, cwd=REPOSITORY, timeout=120)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    yield run
    shutil.rmtree(tmp_path / "r", ignore_errors=True)


def _folders(root: Path) -> list[Path]:
    return sorted((root / "runs").iterdir())


@pytest.mark.slow
def test_runs_whose_preemption_ends_their_job_go_on_from_where_they_saved(cluster, vocl, tmp_path) -> None:
    words = (*TINY, "cluster.partition=cancel", "seed=0,1", "train.steps=250")
    said = vocl(cluster, "submit", *words)
    job = said.partition("queued job ")[2].partition(":")[0]
    root = tmp_path / "r"
    try:
        cluster.wait_until(
            lambda: all(list((f / "checkpoints").glob("[0-9]*.pt")) for f in _folders(root)), 90
        )
        cluster.preempt(f"{job}_0")
        cluster.wait_until(lambda: cluster.state(f"{job}_1") not in ("RUNNING", "COMPLETING"))
        said = cluster.wait_until(
            lambda: (text := vocl(cluster, "tend", *words)) and text.count("preempted on") == 2 and text
        )
        assert said.count("queued ") >= 2 and "2 runs: 2 queued" in said
        ids = [folder.name for folder in _folders(root)]
        assert vocl(cluster, "tend", *words).count("job") == 0
        cluster.wait_until(lambda: all(s.name == "done" for s in look(root, ids)[0].values()), 120, 1.0)
        for folder in _folders(root):
            assert len(claims.history(folder)) == 2
            starts = [
                json.loads(p.read_text())["step"] for p in sorted((folder / "events").glob("*-start.json"))
            ]
            assert starts[0] == 0 and starts[-1] > 0
        assert "2 runs: 2 done" in vocl(cluster, "tend", *words)
    finally:
        cluster.run("scancel", "--user=root")


@pytest.mark.slow
def test_what_the_users_limit_keeps_out_follows_as_others_end(start_cluster, vocl, tmp_path) -> None:
    cluster = start_cluster(slurm={"AccountingStorageEnforce": "associations,limits"})
    cluster.run("sacctmgr", "-i", "modify", "user", "root", "set", "MaxSubmitJobs=2", check=True)
    cluster.wait_until(  # the controller hears of it in its own time
        lambda: "MaxSubmitJobs=2" in cluster.run("scontrol", "show", "assoc_mgr", "users=root").stdout
    )
    words = (*TINY, "cluster.partition=low", "seed=0,1,2")
    said = vocl(cluster, "submit", *words, code=1)
    assert "queued job" in said and "MaxSubmitJob" in said
    ids = [folder.name for folder in _folders(tmp_path / "r")]
    try:
        said = ""

        def finished() -> bool:
            nonlocal said
            said += vocl(cluster, "tend", *words)
            return all(state.name == "done" for state in look(tmp_path / "r", ids)[0].values())

        cluster.wait_until(finished, 120, 1.0)
        assert "was left out" in said
        assert len(ids) == 3
    finally:
        cluster.run("scancel", "--user=root")
