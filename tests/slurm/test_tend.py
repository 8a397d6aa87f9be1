"""`vocl tend` on a real SLURM: what it ends for good, and what its limits keep out."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cluster import TestCluster
from sweeps import Sweeps, shared_folder

from launch import cli
from launch.run_states.states import look
from launch.slurm.refusals import refused
from vocl.rundir import claims
from vocl.rundir.causes import Cause
from vocl.rundir.results_root import ResultsRoot
from vocl.rundir.run_dir import RunDir

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
        done = cluster.run(*command, env=environment, cwd=REPOSITORY, timeout=600)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    yield run
    shutil.rmtree(tmp_path / "r", ignore_errors=True)


def _folders(root: Path) -> list[Path]:
    return sorted((root / "runs").iterdir())


@pytest.mark.slow
def test_runs_whose_preemption_ends_their_job_go_on_from_where_they_saved(cluster, capsys) -> None:
    with shared_folder() as folder:
        own = Sweeps(cluster, folder)
        gates = [own.gate(name) for name in ("first", "second")]
        specs = []
        for seed, gate in enumerate(gates):
            words = own.words(f"seed={seed}", "cluster.partition=cancel", f"loss.probe.folder={gate}")
            specs += own.specs(words)
            assert own.submit(words) == 0
        chosen = [*(spec.id for spec in specs), f"runtime.root={own.root}"]

        def tend() -> str:
            capsys.readouterr()
            with own.environment():
                assert cli.main(["tend", *chosen]) == 0
            return capsys.readouterr().out

        own.arrived(*gates)
        cluster.preempt(own.job(specs[0]))
        own.wait(lambda: all("stopped" in own.ends(spec) for spec in specs))
        said: list[str] = []
        own.wait(lambda: said.append(tend()) or all(len(own.claims(spec)) == 2 for spec in specs))
        assert "".join(said).count("collected ") == 2 and "".join(said).count("preempted on") == 2
        assert tend().count("job") == 0
        for gate in gates:
            (gate / "go").touch()
        own.settled(*specs)
        own.assert_whole(*specs)
        for spec in specs:
            assert [start["step"] for start in own.starts(spec)] == [0, 3]
            assert len(own.claims(spec)) == 2
        assert "2 runs: 2 done" in tend()


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
            return all(state.name == "done" for state in look(ResultsRoot(tmp_path / "r"), ids)[0].values())

        cluster.wait_until(finished, every=1.0)
        assert "was left out" in said
        assert len(ids) == 3
    finally:
        cluster.run("scancel", "--user=root")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("cluster.partition=temporary-gpu", "invalid partition specified: temporary-gpu"),
        ("cluster.constraint=infiniband-connectx", "Invalid feature specification"),
    ],
)
def test_a_request_that_is_wrong_is_refused_once(cluster, vocl, tmp_path, wrong, words) -> None:
    arguments = (*TINY, "cluster.partition=low", wrong, "seed=0,1")
    said = vocl(cluster, "submit", *arguments, code=1)
    assert "not queued: 2 runs: sbatch: error: " in said and words in said and "vocl tend" not in said
    ids = [folder.name for folder in _folders(tmp_path / "r")]
    for _ in range(2):
        assert "2 runs: 2 absent" in vocl(cluster, "tend", *arguments)
    for run in ids:
        (claim,) = claims.history(RunDir(tmp_path / "r" / "runs" / run))
        assert claim.end is not None and claim.end["cause"] is Cause.REJECTED


@pytest.mark.slow
def test_a_controller_without_room_or_answer_is_tried_again(start_cluster, tmp_path, monkeypatch) -> None:
    """sbatch itself, on a script of its own: what `vocl submit` asks first fails then."""
    cluster = start_cluster(slurm={"MaxJobCount": "2"})
    monkeypatch.setenv("SLURM_CONF", cluster.env["SLURM_CONF"])
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/sh\n#SBATCH --partition=low --output=/dev/null --chdir=/\nsleep 600\n")

    def cause() -> Cause:
        done = cluster.run("sbatch", script, timeout=600)
        assert done.returncode == 1, done.stdout
        return refused(["sbatch", str(script)], done.stderr).cause

    job = cluster.sbatch(script)  # MaxJobCount=2 has room for one
    assert cause() is Cause.BUSY
    cluster.run("scancel", job, check=True)
    cluster.stop_controller()
    try:
        assert cause() is Cause.UNREACHABLE
    finally:
        cluster.start_controller()


@pytest.mark.slow
def test_a_run_whose_srun_was_killed_goes_on(cluster, capsys) -> None:
    """What SLURM does then to the run's own process differs; the run comes back in any case."""
    with shared_folder() as folder:
        own = Sweeps(cluster, folder)
        gate = own.gate("killed")
        words = own.words("seed=0", f"loss.probe.folder={gate}", "runtime.checkpoint_every=1")
        (spec,) = own.specs(words)
        assert own.submit(words) == 0
        own.arrived(gate)
        job = own.job(spec)
        for pid in _processes_of(job, "srun"):
            os.kill(pid, signal.SIGKILL)
        own.wait(lambda: cluster.ended(job))
        (gate / "go").touch()
        with own.environment():
            chosen = [spec.id, f"runtime.root={own.root}"]
            own.wait(lambda: cli.main(["tend", *chosen]) == 0 and len(own.claims(spec)) == 2)
        own.settled(spec)
        own.assert_never_twice(spec)
        first, *_, last = own.starts(spec)
        assert first["step"] == 0 < last["step"]


def _processes_of(job: str, program: str) -> list[int]:
    """Numbers of a program's processes that a job has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            name = (path.parent / "comm").read_text().strip()
            if name == program and f"SLURM_JOB_ID={job}".encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found
