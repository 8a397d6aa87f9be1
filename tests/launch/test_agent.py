"""What an array element's agent ends with, without a scheduler."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_slurm import FakeSlurm
from run_records import cluster, finish

from launch.slurm import ledger
from vocl.rundir import claims
from vocl.rundir.results_root import ResultsRoot
from vocl.rundir.run_dir import RunDir

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("outcome", "rank", "code"), [("failed", 0, 1), ("failed", 1, 0), ("done", 0, 0)])
def test_a_failure_before_the_job_was_requeued_counts(tmp_path, outcome, rank, code) -> None:
    runs = ["aaaaaaaaaa", "bbbbbbbbbb"]
    entry = ledger.write(ResultsRoot(tmp_path), cluster("slurm"), [runs], None, [])
    first, _ = (claims.make(RunDir(tmp_path / "runs" / run), None, entry.token, "slurm") for run in runs)
    claims.over(first, outcome)
    finish(tmp_path / "runs" / runs[1])
    element = "import sys; from launch.agent import Agent; Agent(*sys.argv[1:])()"
    done = subprocess.run(
        [sys.executable, "-c", element, str(tmp_path), entry.token],
        cwd=REPOSITORY,
        env=os.environ | {"SLURM_PROCID": str(rank)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stderr
    assert f"{runs[0]}: {outcome} in this job before it was requeued" in done.stderr


@pytest.mark.parametrize("leaves", ["a result", "nothing", "what cannot be read"])
def test_a_finished_run_is_done_however_its_process_leaves(tmp_path, leaves: str) -> None:
    run = "aaaaaaaaaa"
    entry = ledger.write(ResultsRoot(tmp_path), cluster("slurm"), [[run]], None, [])
    claims.make(RunDir(tmp_path / "runs" / run), None, entry.token, "slurm")
    stub = tmp_path / "stub" / "vocl"
    stub.mkdir(parents=True)
    (stub / "__init__.py").touch()
    result = json.dumps({"run_id": run, "metrics": {}, "evals": {}})
    path = str(tmp_path / "runs" / run / "result.json")
    write = {
        "a result": f"print({result!r}, file=open({path!r}, 'w'), flush=True)",
        "nothing": "",
        "what cannot be read": f"os.symlink('result.json', {path!r})",
    }[leaves]
    (stub / "train.py").write_text(f"import os\n{write}\nos.kill(os.getpid(), 11)\n")
    element = (
        "import os, sys; from launch.agent import Agent; "
        "os.chdir(sys.argv.pop()); Agent(*sys.argv[1:])()"  # from here on, vocl.train is the stub
    )
    done = subprocess.run(
        [sys.executable, "-c", element, str(tmp_path), entry.token, str(stub.parent)],
        cwd=REPOSITORY,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == (0 if leaves == "a result" else 1), done.stderr
    claim = claims.newest(RunDir(tmp_path / "runs" / run))
    assert claim is not None and claim.end is not None
    assert claim.end["outcome"] == ("done" if leaves == "a result" else "failed")


@pytest.mark.parametrize(
    ("name", "again"),
    [("SIGUSR1", True), ("SIGUSR2", True), ("SIGHUP", True), ("SIGTERM", False), ("SIGINT", False)],
)
def test_any_signal_has_the_runs_save_and_leave(slurm: FakeSlurm, tmp_path: Path, name, again) -> None:
    """A warning brings the job back; what follows SIGTERM is the scheduler's, SIGINT is a person's word."""
    run = "aaaaaaaaaa"
    entry = ledger.write(ResultsRoot(tmp_path), cluster("slurm", max_requeues=5), [[run]], None, [])
    claims.make(RunDir(tmp_path / "runs" / run), None, entry.token, "slurm")
    stub = tmp_path / "stub" / "vocl"
    stub.mkdir(parents=True)
    (stub / "__init__.py").touch()
    (stub / "train.py").write_text(TRAIN)
    element = "from launch.agent import Agent; os.chdir(sys.argv.pop()); Agent(*sys.argv[1:])()"
    element = f"import os, sys; {element}"
    command = [sys.executable, "-c", element, str(tmp_path), entry.token, str(stub.parent)]
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    agent = subprocess.Popen(command, cwd=REPOSITORY, env=kept | {"SLURM_JOB_ID": "7"})
    while agent.poll() is None and not (stub.parent / "up").exists():
        time.sleep(0.02)
    agent.send_signal(getattr(signal, name))
    assert agent.wait(60) == 75
    assert (["scontrol", "requeue", "7"] in slurm.calls) == again
    claim = claims.newest(RunDir(tmp_path / "runs" / run))
    assert claim is not None and claim.is_open


TRAIN = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
open("up", "w").close()
time.sleep(60)
"""
