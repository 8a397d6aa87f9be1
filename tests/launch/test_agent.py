"""What an array element's agent ends with, without a scheduler."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from run_records import finish

from launch import ledger
from vocl import claims

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("outcome", "rank", "code"), [("failed", 0, 1), ("failed", 1, 0), ("done", 0, 0)])
def test_a_failure_before_the_job_was_requeued_counts(tmp_path, outcome, rank, code) -> None:
    runs = ["aaaaaaaaaa", "bbbbbbbbbb"]
    entry = ledger.write(tmp_path, {"kind": "slurm"}, [runs], None, [])
    first, _ = (claims.make(tmp_path / "runs" / run, None, entry.token, "slurm") for run in runs)
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
    assert f"{runs[0]}: {outcome} in this job before it was requeued" in done.stdout


@pytest.mark.parametrize("leaves", ["a result", "nothing", "what cannot be read"])
def test_a_finished_run_is_done_however_its_process_leaves(tmp_path, leaves: str) -> None:
    run = "aaaaaaaaaa"
    entry = ledger.write(tmp_path, {"kind": "slurm"}, [[run]], None, [])
    claims.make(tmp_path / "runs" / run, None, entry.token, "slurm")
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
    claim = claims.newest(tmp_path / "runs" / run)
    assert claim is not None and claim.end is not None
    assert claim.end["outcome"] == ("done" if leaves == "a result" else "failed")
