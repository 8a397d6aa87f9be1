"""The test cluster does what the tests of sweeps take for granted of a SLURM."""

from __future__ import annotations

import contextlib
import operator
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cluster as cluster_file
import pytest
import submitit
from cluster_daemons import owned


@pytest.fixture
def submit(cluster, tmp_path):
    """Submit one line, its output to ``<tmp_path>/<id>.txt``; cancelled after the test if it lives."""
    ids = []

    def one(line: str, *arguments: str) -> str:
        ids.append(cluster.sbatch("-o", tmp_path / "%j.txt", "--chdir", "/", *arguments, "--wrap", line))
        return ids[-1]

    yield one
    cluster.run("scancel", *ids)


def test_sacct_tells_how_jobs_ended_and_whose_they_were(cluster, submit):
    jobs = [submit(f"exit {code}", "--gres=gpu:2") for code in (0, 1)]
    arguments = ("-o", "/dev/null", "--chdir", "/")
    jobs.append(cluster.sbatch(*arguments, user="nobody", group="nogroup", input="#!/bin/bash\nexit 2\n"))
    rows = cluster.wait_until(lambda: cluster.ended(",".join(jobs), 3))
    assert [(row["User"], row["State"], row["ExitCode"]) for row in rows] == [
        ("root", "COMPLETED", "0:0"),
        ("root", "FAILED", "1:0"),
        ("nobody", "FAILED", "2:0"),
    ]
    assert ["gres/gpu=2" in row["AllocTRES"] for row in rows] == [True, True, False]


def test_jobs_see_the_gpus_they_asked_for(cluster, submit, tmp_path):
    line = f"echo $CUDA_VISIBLE_DEVICES; until [ -e {tmp_path}/go ]; do sleep 0.1; done"
    jobs = [submit(line, "--gres=gpu:1") for _ in range(2)]
    cluster.wait_until(lambda: {cluster.state(job) for job in jobs} == {"RUNNING"})
    (tmp_path / "go").touch()
    cluster.wait_until(lambda: {cluster.state(job) for job in jobs} == {"COMPLETED"})
    assert sorted((tmp_path / f"{job}.txt").read_text() for job in jobs) == ["0\n", "1\n"]


def test_preempted_job_is_requeued_and_runs_again(cluster, submit, tmp_path):
    line = 'echo restart $SLURM_RESTART_COUNT; [ -n "$SLURM_RESTART_COUNT" ] || sleep 10000'
    job = submit(line, "-p", "low", "--open-mode=append")
    cluster.wait_until(lambda: (tmp_path / f"{job}.txt").exists())
    cluster.preempt(job)
    rows = cluster.wait_until(lambda: cluster.ended(job, 2))
    assert [row["State"] for row in rows] == ["PREEMPTED", "COMPLETED"]
    lines = (tmp_path / f"{job}.txt").read_text().splitlines()
    assert (lines[0], lines[-1]) == ("restart", "restart 1")


def test_elements_of_an_array_end_each_for_itself(cluster, submit):
    job = submit("exit $SLURM_ARRAY_TASK_ID", "--array=0-3%2")
    rows = cluster.wait_until(lambda: cluster.ended(job, 4))
    assert {row["JobID"]: row["ExitCode"] for row in rows} == {
        f"{job}_{index}": f"{index}:0" for index in range(4)
    }
    refused = cluster.run("sbatch", "--array=1001", "--wrap", "true")
    assert "Invalid job array specification" in refused.stderr


def test_submitit_maps_an_array(cluster, tmp_path, monkeypatch):
    for name in os.environ.keys() - cluster.env.keys():
        monkeypatch.delenv(name)
    for name, value in cluster.env.items():
        monkeypatch.setenv(name, value)
    executor = submitit.SlurmExecutor(tmp_path)
    executor.update_parameters(time=5, gres="gpu:1", partition="low")
    jobs = executor.map_array(operator.mul, [2, 3, 4], [5, 6, 7])
    assert [job.result() for job in jobs] == [10, 18, 28]


def test_controller_comes_back_with_its_jobs(cluster, submit, tmp_path):
    job = submit(f"until [ -e {tmp_path}/go ]; do sleep 0.1; done")
    cluster.wait_until(lambda: cluster.state(job) == "RUNNING")
    cluster.stop_controller()
    assert "is DOWN" in cluster.run("scontrol", "ping").stdout
    cluster.start_controller()
    (tmp_path / "go").touch()
    cluster.wait_until(lambda: cluster.state(job) == "COMPLETED")


@pytest.fixture
def folder():
    """A folder that every user may enter, unlike those of pytest."""
    with tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp") as name:
        yield Path(name)


def _variables_of_all() -> Iterator[bytes]:
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            yield path.read_bytes()


def test_nothing_survives_a_killed_owner(cluster, folder):
    command = [sys.executable, cluster_file.__file__, folder, "--no-accounting"]
    owner = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert owner.stdout.readline() == f"export SLURM_CONF={folder}/slurm.conf\n"
        own = cluster_file.TestCluster(folder)
        own.sbatch("-o", "/dev/null", "--chdir", "/", "--wrap", f"touch {folder}/began; env -i sleep 1000")
        own.wait_until((folder / "began").exists)
        assert "accounting storage is disabled" in own.run("sacct").stderr
    finally:
        owner.kill()
        owner.communicate()
    own.wait_until(lambda: not owned(folder, own.name))
    assert str(folder).encode() not in b"".join(_variables_of_all())
    assert cluster.run("scontrol", "ping").returncode == 0
