from __future__ import annotations

from collections.abc import Callable

import pytest
from acting import tend_duo

from launch.cli import main
from launch.commands import tend
from launch.selection import plan
from launch.submission import snapshot
from vocl.rundir import claims
from vocl.rundir.run_dir import RunDir


@pytest.fixture
def frozen_world(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From now on nothing may be composed and no code be copied."""

    def refuse(*arguments: object) -> None:
        raise AssertionError("composed, or took a snapshot")

    def freeze() -> None:
        for module in (plan, tend):
            monkeypatch.setattr(module, "select", refuse)
        monkeypatch.setattr(snapshot, "take", refuse)

    return freeze


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("PREEMPTED", "preempted"),
        ("NODE_FAIL", "node failure"),
        ("TIMEOUT", "time limit"),
        ("BOOT_FAIL", "boot_fail"),
    ],
)
def test_a_lost_job_is_collected_and_queued_again_once(sweep, frozen_world, capsys, state, reason) -> None:
    it = sweep()
    run, other = it.ids[:2]
    before = it.entry(run)
    it.lost(run, state)
    frozen_world()
    assert tend_duo(it) == 0
    out = capsys.readouterr().out
    assert f"collected {run} (none, all, seed 0): {reason} on n1, saved at step 10" in out
    assert f"queued {run} (none, all, seed 0) in job 101: {reason}" in out
    assert it.entry(run).snapshot == before.snapshot
    assert it.entry(run).cluster == before.cluster
    assert it.state(run).name == "queued"
    assert claims.history(RunDir(it.folder(run)))[0].end["reason"] == reason
    assert tend_duo(it) == 0
    assert capsys.readouterr().out.startswith("4 runs: 4 queued")
    assert (
        len(claims.history(RunDir(it.folder(run)))) == 2
        and len(claims.history(RunDir(it.folder(other)))) == 1
    )


def test_collected_once_the_state_needs_no_accounting(sweep, capsys) -> None:
    it = sweep("cluster.max_resubmits=0")
    it.lost(it.ids[0], "PREEMPTED")
    tend_duo(it)
    it.slurm.fault("sacct", "down")
    state = it.state(it.ids[0])
    assert state.name == "failed"
    assert state.reason == "preempted; resubmitted 0 times, the most that cluster.max_resubmits allows", state
    assert "gave up" in capsys.readouterr().out


def test_no_progress_ends_it_and_says_so(sweep, capsys) -> None:
    it = sweep()
    run = it.ids[0]
    it.lost(run, "PREEMPTED", begins=0, saved=10)
    tend_duo(it)
    it.lost(run, "PREEMPTED", begins=10, saved=10)
    assert tend_duo(it) == 0
    reason = "preempted; its last attempt made no progress, at step 10"
    assert f"gave up {run} (none, all, seed 0): {reason}" in capsys.readouterr().out
    assert (it.state(run).name, it.state(run).reason) == ("failed", reason)
    assert tend_duo(it) == 0
    assert capsys.readouterr().out == "4 runs: 1 failed, 3 queued\n"
    assert main(["retry", run, f"runtime.root={it.root}"]) == 0  # a person may
    assert it.state(run).name == "queued"


def test_an_evaluation_is_progress(sweep) -> None:
    it = sweep()
    run = it.ids[0]
    it.starts(run, 10)
    it.saves(run, 10)
    report = it.folder(run) / "eval" / "abc" / "report.json"
    report.parent.mkdir(parents=True)
    report.write_text("{}")
    it.ends(run, "PREEMPTED")
    tend_duo(it)
    assert it.state(run).name == "queued"


def test_no_more_often_than_allowed_until_a_person_retries(sweep) -> None:
    it = sweep("cluster.max_resubmits=1")
    run = it.ids[0]
    it.lost(run, "PREEMPTED", 0, 10)
    tend_duo(it)
    it.lost(run, "PREEMPTED", 10, 20)
    tend_duo(it)
    assert it.state(run).name == "failed"
    assert "resubmitted 1 times" in it.state(run).reason
    main(["retry", run, f"runtime.root={it.root}"])
    it.lost(run, "PREEMPTED", 20, 30)
    tend_duo(it)
    assert it.state(run).name == "queued"


def test_out_of_memory_gets_more_of_it(sweep) -> None:
    it = sweep("cluster.mem_gb=8", "cluster.mem_factor=1.5", "cluster.max_resubmits=2")
    run = it.ids[0]
    for expected in (12, 18):
        it.starts(run)
        it.ends(run, "OUT_OF_MEMORY")
        assert tend_duo(it) == 0
        assert it.entry(run).cluster.mem_gb == expected
    assert it.entry(it.ids[1]).cluster.mem_gb == 8
    it.starts(run)
    it.ends(run, "OUT_OF_MEMORY")
    tend_duo(it)
    assert it.state(run).reason.startswith("out of memory; resubmitted 2 times")


def test_out_of_memory_without_a_known_amount(sweep) -> None:
    it = sweep()
    it.starts(it.ids[0])
    it.ends(it.ids[0], "OUT_OF_MEMORY")
    tend_duo(it)
    assert (
        it.state(it.ids[0]).reason == "out of memory; no more could be asked for, cluster.mem_gb is not set"
    )


def test_a_child_that_was_killed_is_out_of_memory_when_accounting_says_so(sweep) -> None:
    it = sweep("cluster.mem_gb=8")
    starved, shot = it.ids[:2]
    for run, state in ((starved, "OUT_OF_MEMORY"), (shot, "FAILED")):
        it.lost(run, state)
        claims.over(claims.newest(RunDir(it.folder(run))), "failed", code=-9, line="...")
    tend_duo(it)
    assert it.entry(starved).cluster.mem_gb == 12
    assert it.entry(shot).cluster.mem_gb == 8
    assert it.state(shot).name == "queued"


@pytest.mark.parametrize("code", [1, 2, -11])
def test_mistakes_and_crashes_are_left_alone(sweep, code, capsys) -> None:
    it = sweep()
    run = it.ids[0]
    it.lost(run, "FAILED")
    claims.over(claims.newest(RunDir(it.folder(run))), "failed", code=code, line="ValueError: no")
    assert tend_duo(it) == 0
    assert it.state(run).name == "failed"
    assert len(claims.history(RunDir(it.folder(run)))) == 1
    assert "gave up" not in capsys.readouterr().out


def test_what_a_person_cancelled_stays_so(sweep) -> None:
    it = sweep()
    running, pending = it.ids[:2]
    it.starts(running)
    it.ends(running, "CANCELLED")
    it.ends(pending, "CANCELLED")
    tend_duo(it)
    assert (it.state(running).reason, it.state(pending).reason) == ("cancelled", "cancelled while pending")
    assert {it.state(run).name for run in (running, pending)} == {"failed"}


def test_nothing_is_written_while_slurm_does_not_answer(sweep, capsys) -> None:
    it = sweep()
    it.lost(it.ids[0], "PREEMPTED")
    it.slurm.fault("squeue", "Unable to contact slurm controller")
    assert tend_duo(it) == 1
    assert "Unable to contact" in capsys.readouterr().out
    assert claims.newest(RunDir(it.folder(it.ids[0]))).end is None
    it.slurm.fault("squeue", None)
    assert tend_duo(it) == 0
    assert it.state(it.ids[0]).name == "queued"


def test_what_max_jobs_left_out_follows_as_others_leave(sweep, frozen_world, capsys) -> None:
    it = sweep("cluster.max_jobs=3")
    assert "not queued: 1 runs: cluster.max_jobs is reached" in capsys.readouterr().err
    (left,) = [run for run in it.ids if it.state(run).name == "absent"]
    assert it.state(left).reason == "cluster.max_jobs is reached"
    frozen_world()
    assert tend_duo(it) == 0
    assert len(claims.history(RunDir(it.folder(left)))) == 1
    it.done(next(run for run in it.ids if run != left))
    assert tend_duo(it) == 0
    assert f"queued {left}" in capsys.readouterr().out
    assert it.state(left).name == "queued"


def test_a_limit_of_slurm_lets_in_what_it_does(slurm, sweep) -> None:
    slurm.is_now(max_submit=2)
    it = sweep()
    names = [it.state(run).name for run in it.ids]
    assert sorted(names) == ["absent", "absent", "queued", "queued"]
    for number in (1, 2):
        queued = [run for run in it.ids if it.state(run).name == "queued"]
        assert tend_duo(it) == 0  # full: nothing is tried
        it.done(queued[0])
        tend_duo(it)
        assert sum(it.state(run).name == "queued" for run in it.ids) == 2, number
    assert [it.state(run).name for run in it.ids].count("absent") == 0


def test_a_run_that_moves_while_it_is_looked_at_is_left_for_the_next_pass(sweep, monkeypatch) -> None:
    it = sweep()
    run = it.ids[0]
    it.lost(run, "PREEMPTED")
    real = tend.look

    def late(*arguments):
        found = real(*arguments)
        claims.over(claims.newest(RunDir(it.folder(run))), "done", code=0)
        return found

    monkeypatch.setattr(tend, "look", late)
    tend_duo(it)
    assert claims.newest(RunDir(it.folder(run))).end["outcome"] == "done"


def test_runs_of_another_person_are_theirs_to_tend(sweep, monkeypatch) -> None:
    it = sweep("cluster.max_jobs=3")
    it.lost(next(run for run in it.ids if it.state(run).name == "queued"), "PREEMPTED")
    before = {run: it.state(run) for run in it.ids}
    monkeypatch.setattr("getpass.getuser", lambda: "somebody_else")
    assert tend_duo(it) == 0
    assert {run: it.state(run) for run in it.ids} == before


def test_one_run_whose_files_are_gone_does_not_keep_the_others(sweep, capsys) -> None:
    it = sweep()
    broken, lost = it.ids[:2]
    for run in (broken, lost):
        it.lost(run, "PREEMPTED")
    (it.folder(broken) / "config.yaml").unlink()
    capsys.readouterr()
    assert tend_duo(it) == 0
    assert f"not queued {broken}" in capsys.readouterr().out
    assert [it.state(run).name for run in (broken, lost)] == ["interrupted", "queued"]
