"""What becomes of a run whose job meets its limit again and again, or another process at its run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from acting import Sweep, tend_duo
from fake_slurm import FakeSlurm
from run_records import cluster

from launch.slurm import ledger
from vocl.rundir import claims
from vocl.rundir.results_root import ResultsRoot
from vocl.rundir.run_dir import RunDir
from vocl.stop import EXIT_TAKEN

REPOSITORY = Path(__file__).resolve().parents[2]
RUN = "aaaaaaaaaa"
ELEMENT = """
import os, sys
from launch import agent
agent.CLAIM_S = 1.0  # no network disk is behind
os.chdir(sys.argv.pop())
agent.Agent(*sys.argv[1:])()
"""
TRAIN = """
import os, pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
folder = pathlib.Path(sys.argv[2]).parent
step = len(list((folder / "checkpoints").glob("*.pt"))) + 1
if pathlib.Path("saves").exists():
    (folder / "checkpoints").mkdir(exist_ok=True)
    (folder / "checkpoints" / f"{step:09d}-0123456789abcdef.pt").touch()
if pathlib.Path("scores").exists():
    (folder / "eval" / str(os.getpid())).mkdir(parents=True)
    (folder / "eval" / str(os.getpid()) / "report.json").touch()
pathlib.Path("up").touch()
time.sleep(600)
"""


class Job:
    """A job of one run, whose training is a stub in `place`."""

    def __init__(self, root: Path, train: str, slurm: FakeSlurm) -> None:
        self.root, self.place, self.slurm = root, root / "stub", slurm
        self.token = ledger.write(ResultsRoot(root), cluster("slurm"), [[RUN]], None, []).token
        self.claim = claims.make(RunDir(root / "runs" / RUN), None, self.token, "slurm")
        (self.place / "vocl").mkdir(parents=True)
        (self.place / "vocl" / "__init__.py").touch()
        (self.place / "vocl" / "train.py").write_text(train)

    def start(self, **environment: str) -> subprocess.Popen[bytes]:
        (self.place / "up").unlink(missing_ok=True)
        kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        command = [sys.executable, "-c", ELEMENT, str(self.root), self.token, str(self.place)]
        return subprocess.Popen(command, cwd=REPOSITORY, env=kept | {"SLURM_JOB_ID": "7"} | environment)

    def slice(self, number: int) -> tuple[int, bool]:
        """It begins for time `number`, and is warned; its exit code, and whether it has itself requeued."""
        before = self.slurm.calls.count(["scontrol", "requeue", "7"])
        agent = self.start(SLURM_RESTART_COUNT=str(number))
        while agent.poll() is None and not (self.place / "up").exists():
            time.sleep(0.02)
        agent.send_signal(signal.SIGUSR2)
        code = agent.wait(120)
        return code, self.slurm.calls.count(["scontrol", "requeue", "7"]) > before

    @property
    def end(self) -> dict | None:
        claim = claims.newest(RunDir(self.root / "runs" / RUN))
        return claim.end if claim else None


def test_a_few_slices_without_progress_end_a_run_with_the_reason(slurm: FakeSlurm, tmp_path: Path) -> None:
    job = Job(tmp_path, TRAIN, slurm)
    (job.place / "saves").touch()
    assert job.slice(0) == job.slice(1) == (75, True)
    (job.place / "saves").unlink()
    ends = [job.slice(number) for number in range(2, 5)]
    assert ends == [(75, True), (75, True), (1, False)]
    assert job.end["outcome"] == "failed"
    assert "no progress in 3 jobs in a row" in job.end["reason"] and "at step 2" in job.end["reason"]
    assert "cluster.time_min" in job.end["reason"] and "cluster.signal_s" in job.end["reason"]


@pytest.mark.parametrize("what", ["saves", "scores"])
def test_slices_with_progress_go_on(slurm: FakeSlurm, tmp_path: Path, what: str) -> None:
    job = Job(tmp_path, TRAIN, slurm)
    (job.place / what).touch()
    assert [job.slice(number) for number in range(5)] == [(75, True)] * 5
    assert job.end is None


def test_a_job_that_finds_another_process_at_its_run_is_stopped_not_failed(slurm, tmp_path: Path) -> None:
    said = f"print('process 7 on n1 has it'); raise SystemExit({EXIT_TAKEN})"
    job = Job(tmp_path, said, slurm)
    assert job.start().wait(120) == 75
    assert (job.end["outcome"], job.end["line"]) == ("stopped", "process 7 on n1 has it")


def test_tend_brings_back_what_another_process_had(sweep) -> None:
    it: Sweep = sweep()
    run = it.ids[0]
    it.starts(run)
    (it.folder(run) / "events" / "0001-start.json").unlink()  # it never got to train
    it.ends(run, "FAILED")
    claims.over(claims.newest(RunDir(it.folder(run))), "stopped", code=EXIT_TAKEN, line="held by process 7")
    assert tend_duo(it) == 0
    assert it.state(run).name == "queued"


@pytest.mark.slow
def test_a_job_without_a_claim_fails_with_a_record(slurm: FakeSlurm, tmp_path: Path) -> None:
    job = Job(tmp_path, "print('trained')", slurm)
    (tmp_path / "runs" / RUN / "jobs" / "0001.json").unlink()
    assert job.start().wait(120) == 1
    (record,) = (tmp_path / "runs" / RUN / "events").glob("*-failed.json")
    assert f"no claim of submission {job.token}" in record.read_text()
    assert not (tmp_path / "runs" / RUN / "log.txt").exists()


@pytest.mark.slow
def test_a_job_without_a_claim_leaves_the_records_of_another_alone(slurm, tmp_path: Path) -> None:
    job = Job(tmp_path, "print('trained')", slurm)
    (tmp_path / "runs" / RUN / "jobs" / "0001.json").unlink()
    claims.make(RunDir(tmp_path / "runs" / RUN), None, "another", "slurm")
    assert job.start().wait(120) == 1
    assert not (tmp_path / "runs" / RUN / "events").exists() and job.end is None


def test_a_job_whose_run_was_taken_over_leaves_it(slurm: FakeSlurm, tmp_path: Path) -> None:
    job = Job(tmp_path, "print('trained')", slurm)
    claims.over(job.claim, "withdrawn")
    claims.make(
        RunDir(tmp_path / "runs" / RUN), claims.newest(RunDir(tmp_path / "runs" / RUN)), "another", "slurm"
    )
    assert job.start().wait(120) == 0
    assert not (tmp_path / "runs" / RUN / "log.txt").exists()
