"""How runs end is told truly: by their records, accounting, `vocl status` and weights."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sweeps import Sweeps, shared_folder

from launch import ports
from launch.slurm import ledger
from vocl.rundir.results_root import ResultsRoot

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
LATER = "+cluster.sbatch.begin=2099-01-01"
SECRET = "hunter2-in-the-shell-of-the-submitter"


@pytest.fixture(scope="module")
def sweeps(start_cluster) -> Iterator[Sweeps]:
    with shared_folder() as folder:
        yield Sweeps(start_cluster(max_array_size=4), folder)


@pytest.fixture(scope="module")
def taken() -> Iterator[None]:
    """The first port that each of the first fifty jobs would choose is somebody else's."""
    with ExitStack() as others:
        for job in range(50):
            other = others.enter_context(socket.socket())
            other.bind(("", ports.free(1, job)[0]))
            other.listen()
        yield


@pytest.fixture(scope="module")
def cases(sweeps: Sweeps, taken: None) -> dict:
    """All cases of this file, queued at once."""
    gates = {name: sweeps.gate(name) for name in ("killed", "agent")}
    words = {
        "killed": sweeps.words("seed=1", f"loss.probe.folder={gates['killed']}"),
        "agent": sweeps.words("seed=2", f"loss.probe.folder={gates['agent']}"),
        "array": sweeps.words("seed=10,11,12,13,14"),
        "raises": sweeps.words("seed=3", "loss.probe.fails=[0]"),
        "rank": sweeps.words("seed=4", "loss.probe.fails=[1]", "cluster.tasks=2"),
        "pending": sweeps.words("seed=5,6", LATER),
        "ranks": sweeps.words("seed=20,21", "cluster.tasks=2", "cluster.runs_per_job=2"),
        "packed": sweeps.words("seed=7,8,9", "cluster.runs_per_job=3", "eval=[discovery]"),
    }
    # one of the packed runs fails, and only it: something lies where its scores belong
    broken = sweeps.specs(words["packed"])[1]
    sweeps.run(broken).mkdir(parents=True)
    (sweeps.run(broken) / "eval").write_text("in the way")
    with sweeps.environment(VOCL_SECRET_TOKEN=SECRET):
        for each in words.values():
            assert sweeps.submit(each) == 0
    return {name: (each, sweeps.specs(each), gates.get(name)) for name, each in words.items()}


def test_run_killed_outright_has_failed(sweeps: Sweeps, cases):
    _, (spec,), gate = cases["killed"]
    sweeps.arrived(gate)
    assert sweeps.state(spec).name == "running"
    os.kill(sweeps.starts(spec)[-1]["pid"], signal.SIGKILL)
    states = sweeps.wait_for([spec], "failed")
    assert states[spec.id].reason == "killed by signal 9"
    assert sweeps.sacct(sweeps.job(spec)) == [("FAILED", "1:0")]
    (claim,) = sweeps.claims(spec)
    assert (claim.end["outcome"], claim.end["code"]) == ("failed", -9)
    assert sweeps.ends(spec) == []


def test_run_whose_agent_is_killed_stops_with_it(sweeps: Sweeps, cases):
    _, (spec,), gate = cases["agent"]
    sweeps.arrived(gate)
    job = sweeps.job(spec)
    os.kill(sweeps.claims(spec)[-1].start["pid"], signal.SIGKILL)
    sweeps.wait(lambda: sweeps.cluster.ended(job))
    (gate / "go").touch()  # its child was asked to stop, and saves now: nothing is wrong with the run
    states = sweeps.wait_for([spec], "interrupted")
    ((state, code),) = sweeps.sacct(job)  # 137:0 or 9:0
    assert (state, states[spec.id].reason) == ("FAILED", f"job failed, exit code {code}")
    assert sweeps.event(spec, "0001-stopped")["detail"] == "step 3 of 12"


def test_array_beyond_the_limit_is_several(sweeps: Sweeps, cases):
    _, specs, _ = cases["array"]
    sweeps.settled(*specs)
    sweeps.assert_whole(*specs)
    tokens = {spec.id: sweeps.claims(spec)[-1].token for spec in specs}
    assert len(set(tokens.values())) == 2
    for spec in specs:
        assert (sweeps.ends(spec), sweeps.result(spec)["attempts"]) == (["done"], 1)
        assert sweeps.sacct(sweeps.job(spec)) == [("COMPLETED", "0:0")]
        (claim,) = sweeps.claims(spec)
        assert claim.end["outcome"] == "done" and claim.start["restart"] == 0


def test_run_that_raises_has_failed_in_accounting_too(sweeps: Sweeps, cases):
    _, (spec,), _ = cases["raises"]
    states = sweeps.wait_for([spec], "failed")
    assert states[spec.id].reason == "ArithmeticError: the probe was asked to fail"
    assert sweeps.sacct(sweeps.job(spec)) == [("FAILED", "1:0")]
    assert sweeps.event(spec, "0001-failed")["kind"] == "ArithmeticError"
    (claim,) = sweeps.claims(spec)
    assert (claim.end["outcome"], claim.end["code"]) == ("failed", 1)
    assert "ArithmeticError: the probe was asked to fail" in claim.end["line"]


def test_run_of_which_one_rank_raises_has_failed(sweeps: Sweeps, cases):
    _, (spec,), _ = cases["rank"]
    states = sweeps.wait_for([spec], "failed")
    assert sweeps.sacct(sweeps.job(spec))[0][0] == "FAILED"  # 1:0, or 9:0 if srun ended the other rank first
    assert sweeps.event(spec, "0001-failed-rank1")["kind"] == "ArithmeticError"
    assert states[spec.id].reason == "ArithmeticError: the probe was asked to fail"


def test_packed_runs_on_two_ranks_meet_where_nobody_is(sweeps: Sweeps, cases):
    _, specs, _ = cases["ranks"]
    sweeps.settled(*specs)
    assert {sweeps.job(spec) for spec in specs} == {sweeps.job(specs[0])}
    for spec in specs:
        assert (sweeps.ends(spec), sweeps.starts(spec)[0]["world"]) == (["done"], 2)


def test_element_cancelled_while_pending(sweeps: Sweeps, cases):
    _, (gone, stays), _ = cases["pending"]
    job = sweeps.job(gone)
    assert {s.name for s in sweeps.look([gone, stays]).values()} == {"queued"}
    sweeps.cluster.run("scancel", job, check=True)
    states = sweeps.wait_for([gone], "failed")
    assert states[gone.id].reason == "cancelled while pending"
    sweeps.now(stays)
    sweeps.settled(stays)
    assert sweeps.state(gone).reason == "cancelled while pending"
    assert not (sweeps.run(gone) / "events").exists()
    sweeps.assert_whole(stays)


def test_packed_runs_fail_each_for_itself(sweeps: Sweeps, cases):
    _, (first, broken, last), _ = cases["packed"]
    sweeps.wait_for([broken], "failed")
    sweeps.settled(first, last)
    sweeps.assert_whole(first, last)
    assert sweeps.job(first) == sweeps.job(broken) == sweeps.job(last)
    assert sweeps.sacct(sweeps.job(first)) == [("FAILED", "1:0")]
    assert sweeps.event(broken, "0001-failed")["kind"] in ("NotADirectoryError", "FileExistsError")
    assert [sweeps.claims(s)[-1].end["outcome"] for s in (first, broken, last)] == ["done", "failed", "done"]
    assert "in the way" not in (sweeps.run(first) / "log.txt").read_text()


def test_no_secret_of_the_submitting_shell_is_anywhere(sweeps: Sweeps, cases):
    _, (spec,), _ = cases["raises"]
    sweeps.wait_for([spec], "failed")
    files = [path for path in sweeps.root.rglob("*") if path.is_file()]
    assert len(files) > 50
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
    assert [path for path in files if b"VOCL_SECRET_TOKEN" in path.read_bytes()] == []


def test_jobs_run_the_code_as_it_was_when_submitted(sweeps: Sweeps):
    """The checkout and the project change between submit and start."""
    with shared_folder() as folder:
        checkout = folder / "checkout"
        for part in ("vocl", "launch", "conf", "hydra_plugins"):
            shutil.copytree(REPOSITORY / part, checkout / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(REPOSITORY / "pyproject.toml", checkout)
        own = Sweeps(sweeps.cluster, folder)
        words = own.words("seed=1", LATER, "eval=[discovery]")
        (spec,) = own.specs(words)
        environment = own.cluster.env | {
            "PYTHONPATH": str(checkout), "PYTHONSAFEPATH": "1", "VOCL_SECRET_TOKEN": SECRET,
        }  # fmt: skip
        command = [sys.executable, "-m", "launch.cli", "submit", *words]
        done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        (checkout / "vocl/run.py").write_text("raise RuntimeError('the checkout was used')\n")
        (checkout / "launch/agent.py").write_text("raise RuntimeError('the checkout was used')\n")
        probe = own.project / own.package / "__init__.py"
        text = probe.read_text()
        probe.write_text("raise RuntimeError('the project was used')\n")
        own.now(spec)
        own.settled(spec)
        probe.write_text(text)
        submission = ledger.read(ResultsRoot(own.root), own.claims(spec)[-1].token)
        (start,) = own.starts(spec)
        assert start["imported_from"] == str(own.root / "snapshots" / submission.snapshot)
        assert Path(start["command"][0]).is_relative_to(start["imported_from"])
        own.assert_whole(spec)
