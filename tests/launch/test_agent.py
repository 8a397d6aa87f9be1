"""What an array element's agent ends with, without a scheduler."""

from __future__ import annotations

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
