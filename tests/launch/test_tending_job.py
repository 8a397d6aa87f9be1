"""`vocl tend --watch`, and the job that tends: when it is queued, what it waits for, what it outlasts."""

from __future__ import annotations

import pytest
from acting import tend_duo

from launch.cli import main
from launch.commands import tend
from launch.slurm.client import SlurmError
from launch.submission import tend_job
from vocl.tracking.log import unstamped


def test_watch_ends_when_nothing_can_happen(sweep, monkeypatch, capsys) -> None:
    it = sweep()
    waits = []

    def finish(seconds: float) -> None:
        if seconds != tend.WATCH_S:
            return
        waits.append(seconds)
        it.done(it.ids[len(waits) - 1])

    monkeypatch.setattr(tend.time, "sleep", finish)
    assert tend_duo(it, "--watch") == 0
    assert len(waits) == 4
    assert "4 runs: 4 done" in capsys.readouterr().out.splitlines()[-1]


def test_submit_tend_queues_a_job_behind_the_arrays(sweep) -> None:
    it = sweep("--tend")
    (call,) = [c for c in it.slurm.calls if c[0] == "sbatch" and "--dependency=afterany:100" in c]
    script = (it.root / "ledger" / call[-1].rpartition("/")[2]).read_text()
    assert f"-m launch.cli tend duo runtime.root={it.root} --arm" in script
    assert str(it.entry(it.ids[0]).snapshot) in script


@pytest.mark.parametrize("command", ["squeue", "sbatch"])
def test_submit_says_when_no_tending_job_could_be_queued(sweep, capsys, command) -> None:
    it = sweep()
    it.slurm.fault(command, "Unable to contact slurm controller")
    capsys.readouterr()
    assert main(["submit", *it.arguments, "--tend"]) == 1
    error = capsys.readouterr().err
    assert (
        unstamped(error) == f"no tending job queued: {command}: error: Unable to contact slurm controller\n"
    )


def test_squeue_may_fail_between_the_look_and_the_tending_job(sweep, capsys, monkeypatch) -> None:
    it = sweep()
    real = tend_job.look

    def then_down(*arguments):
        found = real(*arguments)
        it.slurm.fault("squeue", "down")
        return found

    monkeypatch.setattr(tend_job, "look", then_down)
    assert main(["submit", *it.arguments, "--tend"]) == 1
    assert "no tending job queued: squeue: error: down\n" in capsys.readouterr().err


def test_runs_that_limits_kept_out_are_tended_where_nothing_is_live(sweep, capsys) -> None:
    it = sweep("cluster.max_jobs=3")
    (left,) = [run for run in it.ids if it.state(run).name == "absent"]
    for run in it.ids:
        if run != left:
            it.done(run)
    for number in range(3):  # of something else: no room yet
        it.slurm.job("other", f"9{number}", 0, "RUNNING")
    before = len(it.slurm.calls)
    assert tend_duo(it, "--arm") == 0
    (call,) = [c for c in it.slurm.calls[before:] if c[0] == "sbatch"]
    assert f"--begin=now+{tend_job.LEFT_OUT_S}" in call
    assert not [word for word in call if word.startswith("--dependency")]
    assert f"tends them in {tend_job.LEFT_OUT_S} s" in capsys.readouterr().err


def test_each_person_has_a_tending_job(sweep, monkeypatch) -> None:
    it = sweep("--tend")
    monkeypatch.setattr("getpass.getuser", lambda: "somebody_else")
    assert main(["submit", *it.arguments, "--tend"]) == 0
    names = [word for c in it.slurm.calls for word in c if word.startswith("--job-name=vocl-tend-")]
    assert len(names) == len(set(names)) == 2


@pytest.mark.parametrize("command", ["squeue", "sbatch"])
def test_a_tending_job_outlasts_a_controller_that_is_away(sweep, capsys, monkeypatch, command) -> None:
    it = sweep()
    it.slurm.fault(command, "Unable to contact slurm controller")
    monkeypatch.setenv("SLURM_JOB_ID", "999")
    passes = []

    def sleep(seconds: float) -> None:
        if seconds == tend.WATCH_S:  # not what waits for a child process
            passes.append(seconds)
            it.slurm.fault(command, None if len(passes) == 3 else "Unable to contact slurm controller")

    monkeypatch.setattr(tend.time, "sleep", sleep)
    assert tend_duo(it, "--arm") == 0
    assert len(passes) == 3
    assert "tends them once they are over" in capsys.readouterr().err


def test_a_tending_job_and_watch_outlast_a_disk_and_a_queue_that_are_away(sweep, capsys, monkeypatch) -> None:
    it = sweep()
    for run in it.ids:
        it.lost(run, "PREEMPTED")  # nothing is live
    waits: list[float] = []
    real, faults = tend.tend, [OSError(116, "Stale file handle", str(it.root)), SlurmError("away")]

    def fails(target):
        if faults and isinstance(faults[0], OSError):
            raise faults.pop(0)
        return tend.Pass({}, trouble=str(faults.pop(0))) if faults else real(target)

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if waits.count(tend.WATCH_S) == 3:
            for run in it.ids:
                it.done(run)

    monkeypatch.setattr(tend, "tend", fails)
    monkeypatch.setattr(tend.time, "sleep", sleep)
    assert tend_duo(it, "--watch") == 0
    lines = capsys.readouterr().out
    assert "Stale file handle" in lines and "away" in lines and "4 runs: 4 queued" in lines
    faults.append(OSError(116, "Stale file handle", str(it.root)))
    assert tend_duo(it) == 2  # by hand, somebody reads it


def test_a_tending_job_that_runs_does_not_keep_others_from_waiting(sweep) -> None:
    it = sweep("--tend")

    def waiting() -> list[list[str]]:
        return [call for call in it.slurm.calls if call[0] == "sbatch" and "--requeue" in call]

    (call,) = waiting()
    name = next(word.partition("=")[2] for word in call if word.startswith("--job-name="))
    it.slurm.job(name, "999", 0, "PENDING")
    assert main(["submit", *it.arguments, "--tend"]) == 0
    assert len(waiting()) == 1
    it.slurm.job(name, "999", 0, "RUNNING")  # it may have looked before this submit
    assert main(["submit", *it.arguments, "--tend"]) == 0
    assert len(waiting()) == 2
