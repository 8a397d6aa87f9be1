"""What the user's shell, or a job around it, holds for SLURM's commands and for submitit."""

from __future__ import annotations

import pytest
from acting import tend_duo
from fake_slurm import FakeSlurm

from launch.cli import main
from launch.slurm import client as commands
from vocl.errors import UserError


def test_options_of_the_shell_hide_no_job_and_change_no_order(sweep, monkeypatch) -> None:
    names = ("SQUEUE_PARTITION", "SACCT_FORMAT", "SCANCEL_STATE", "SCONTROL_ALL", "SBATCH_PARTITION")
    for name in (*names, "SQUEUE_USERS", "SLURM_CLUSTERS"):
        monkeypatch.setenv(name, "high")
    it = sweep()
    assert {it.state(run).name for run in it.ids} == {"queued"}
    it.lost(it.ids[0], "PREEMPTED")
    assert it.state(it.ids[0]).reason == "preempted"
    assert tend_duo(it) == 0
    assert main(["cancel", it.ids[1], f"runtime.root={it.root}"]) == 0
    assert [it.state(run).name for run in it.ids] == ["queued", "failed", "queued", "queued"]
    assert len(it.slurm.jobs) == 3


def test_what_selects_a_slurm_reaches_it(slurm: FakeSlurm, monkeypatch) -> None:
    kept = {"SLURM_CONF": "/there", "SLURM_JWT": "me", "SSH_AGENT": "x"}
    for name in [*kept, "SLURM_JOB_ID", "SBATCH_SIGNAL", "SCANCEL_STATE", "SUBMITIT_PREEMPT_SIGNAL"]:
        monkeypatch.setenv(name, kept.get(name, "1"))
    (slurm.bin / "sinfo").write_text("#!/bin/sh\nenv\n")
    (slurm.bin / "sinfo").chmod(0o755)
    found = dict(line.partition("=")[::2] for line in commands.ask("sinfo").splitlines())
    assert kept.items() <= found.items()
    assert {name for name in found if name.startswith(("SLURM_", "SBATCH_", "SCANCEL_", "SUBMITIT_"))} == {
        "SLURM_CONF",
        "SLURM_JWT",
        "SLURM_BITSTR_LEN",
    }


def test_the_script_asks_for_the_signal_that_vocl_names(sweep, monkeypatch) -> None:
    """submitit takes another from a variable that it reads as it is imported."""
    from submitit.core.job_environment import JobEnvironment

    monkeypatch.setattr(JobEnvironment, "USR_SIG", "USR1")
    monkeypatch.setenv("SUBMITIT_PREEMPT_SIGNAL", "USR1")
    it = sweep("cluster.signal_s=77", "+cluster.sbatch.begin=2099-01-01")
    (script,) = it.entry(it.ids[0]).folder.glob("*submission.sh")
    lines = script.read_text().splitlines()
    assert [line for line in lines if "--signal" in line] == ["#SBATCH --signal=USR2@77"]
    assert "#SBATCH --begin=2099-01-01" in lines


def test_no_other_signal_can_be_asked_for(sweep) -> None:
    with pytest.raises(UserError, match=r"cluster\.sbatch\.signal: .*cluster\.signal_s"):
        sweep("+cluster.sbatch.signal=USR1@60")
