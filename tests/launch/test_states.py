from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import pytest
from fake_slurm import FakeSlurm
from run_records import Sweep, beat, end, finish, put, start

from launch.run_states.states import RunState, look, with_sources
from launch.slurm.job_states import ask
from vocl.ops.narrow import given
from vocl.rundir import claims
from vocl.rundir.results_root import ResultsRoot
from vocl.rundir.run_dir import RunDir

RUN = "0123456789"


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    return Sweep(tmp_path / "results", RUN)


def state(sweep: Sweep, run: str = RUN) -> RunState:
    states, trouble = look(ResultsRoot(sweep.root), [run])
    assert trouble == ""
    return states[run]


def told(found: RunState) -> tuple[str, str]:
    return found.name, found.reason


def test_absent(slurm: FakeSlurm, tmp_path: Path) -> None:
    (tmp_path / "results" / "runs" / "abc").mkdir(parents=True)
    states, _ = look(ResultsRoot(tmp_path / "results"), ["abc", "def"])
    assert [told(states[run]) for run in ("abc", "def")] == [("absent", ""), ("absent", "")]
    assert slurm.calls == []


def test_withdrawn_is_absent_and_says_why(slurm: FakeSlurm, sweep: Sweep) -> None:
    sweep.over(RUN, "withdrawn", line="sbatch: error: no such partition")
    assert told(state(sweep)) == ("absent", "sbatch: error: no such partition")


@pytest.mark.parametrize(
    ("reason", "name"),
    [
        ("Priority", "queued"),
        ("None", "queued"),
        ("Dependency", "waiting"),
        ("DependencyNeverSatisfied", "blocked"),
    ],
)
def test_pending(slurm: FakeSlurm, sweep: Sweep, reason: str, name: str) -> None:
    slurm.job(sweep.name, "7", 0, "PENDING", reason)
    found = state(sweep)
    assert (*told(found), found.job) == (name, reason.removeprefix("None"), "7_0")


def test_the_name_of_a_job_counts_not_its_id(slurm: FakeSlurm, sweep: Sweep) -> None:
    slurm.job("vocl-other", "7", 0, "RUNNING")
    assert state(sweep).name == "failed"


def test_being_submitted(slurm: FakeSlurm, tmp_path: Path) -> None:
    assert told(state(Sweep(tmp_path, RUN, job=None))) == ("queued", "being submitted")


def test_running(slurm: FakeSlurm, sweep: Sweep) -> None:
    slurm.job(sweep.name, "7", 0, "RUNNING", node="n3")
    sweep.begin(RUN)
    found = state(sweep)
    assert (*told(found), found.job, found.node) == ("running", "starting", "7_0", "n3")
    beat(sweep.folder(RUN), 40)
    (sweep.folder(RUN) / "metrics.jsonl").write_text('{"step": 39, "loss": 1.0, "steps_per_s": 2.0}\n')
    found = state(sweep)
    assert (found.step, found.steps, found.rate, found.left_s) == (40, 100, 2.0, 30.0)


def test_requeued_after_a_preemption_is_queued_again(slurm: FakeSlurm, sweep: Sweep) -> None:
    sweep.begin(RUN)
    start(sweep.folder(RUN))
    end(sweep.folder(RUN), "stopped")
    beat(sweep.folder(RUN), 40)
    slurm.job(sweep.name, "7", 0, "PENDING", "BeginTime")
    found = state(sweep)
    assert (*told(found), found.step, found.steps) == ("queued", "BeginTime", 40, 100)


def test_a_training_in_a_terminal_runs(slurm: FakeSlurm, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / RUN
    start(folder)
    beat(folder, 3, host=os.uname().nodename)
    assert look(ResultsRoot(tmp_path), [RUN])[0][RUN].name == "running"
    beat(folder, 3, age_s=3600)
    assert told(look(ResultsRoot(tmp_path), [RUN])[0][RUN]) == ("interrupted", "killed")


def test_a_pool_that_was_killed_leaves_interrupted_runs_that_can_be_claimed(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, RUN, kind="local")
    claim = sweep.begin(RUN)
    start(sweep.folder(RUN))
    beat(sweep.folder(RUN), 3)
    assert state(sweep).name == "running"
    mine = sweep.folder(RUN) / "jobs" / "0001.json"
    mine.write_text(mine.read_text().replace(f'"pid": {claim.pid}', '"pid": 4194305'))
    beat(sweep.folder(RUN), 3, age_s=3600)
    found = state(sweep)
    assert told(found) == ("interrupted", "killed")
    assert claims.make(RunDir(sweep.folder(RUN)), found.claim, "later", "local") is not None


def test_stopped_is_interrupted(slurm: FakeSlurm, sweep: Sweep) -> None:
    sweep.begin(RUN)
    beat(sweep.folder(RUN), 40, age_s=3600)
    sweep.over(RUN, "stopped", line="requeued 5 times")
    found = state(sweep)
    assert (*told(found), found.step, found.node) == ("interrupted", "requeued 5 times", 40, "n1")


def test_exception(slurm: FakeSlurm, sweep: Sweep) -> None:
    sweep.begin(RUN)
    start(sweep.folder(RUN))
    beat(sweep.folder(RUN), 12)
    end(sweep.folder(RUN), "failed", kind="ValueError", message="it\nbroke")
    sweep.over(RUN, "failed", code=1, line="failed: ValueError: it broke")
    found = state(sweep)
    assert (*told(found), found.step, found.node, found.job) == (
        "failed",
        "ValueError: it broke",
        12,
        "n1",
        "7_0",
    )


def test_nan(slurm: FakeSlurm, sweep: Sweep) -> None:
    sweep.begin(RUN)
    end(sweep.folder(RUN), "failed", kind="NonFinite", message="step 7: loss is nan")
    sweep.over(RUN, "failed", code=1, line="")
    assert told(state(sweep)) == ("failed", "NonFinite: step 7: loss is nan")


def test_a_command_that_never_reached_the_training(slurm: FakeSlurm, sweep: Sweep) -> None:
    sweep.begin(RUN)
    sweep.over(RUN, "failed", code=127, line="python: not found")
    assert told(state(sweep)) == ("failed", "python: not found")


def test_killed_by_hand_or_for_want_of_memory(slurm: FakeSlurm, sweep: Sweep) -> None:
    sweep.begin(RUN)
    sweep.over(RUN, "failed", code=-9, line="")
    assert told(state(sweep)) == ("failed", "killed by signal 9")
    slurm.ended(sweep.name, "7", 0, "OUT_OF_MEMORY", "0:125")
    assert told(state(sweep)) == ("failed", "out of memory")


@pytest.mark.parametrize(
    ("accounted", "name", "reason"),
    [
        ("OUT_OF_MEMORY", "failed", "out of memory"),
        ("TIMEOUT", "failed", "time limit"),
        ("NODE_FAIL", "failed", "node failure"),
        ("PREEMPTED", "interrupted", "preempted"),
        ("CANCELLED by 1000", "failed", "cancelled"),
        ("FAILED", "failed", "job failed, exit code 1:0"),
    ],
)
def test_ends_that_only_accounting_knows(slurm: FakeSlurm, sweep: Sweep, accounted, name, reason) -> None:
    sweep.begin(RUN)
    beat(sweep.folder(RUN), 40, age_s=3600)
    slurm.ended(sweep.name, "7", 0, accounted, "1:0", "n5")
    found = state(sweep)
    assert (*told(found), found.step, found.node, found.job) == (name, reason, 40, "n5", "7_0")


def test_the_queue_tells_what_accounting_does_not(slurm: FakeSlurm, sweep: Sweep) -> None:
    sweep.begin(RUN)
    slurm.job(sweep.name, "7", 0, "NODE_FAIL", node="n5")
    slurm.fault("sacct", "Problem talking to the database: Connection refused")
    assert told(state(sweep)) == ("failed", "node failure")


def test_cancelled_while_pending(slurm: FakeSlurm, sweep: Sweep) -> None:
    assert told(state(sweep)) == ("failed", "cancelled while pending")


@pytest.mark.parametrize("fault", ["Problem talking to the database: Connection refused", "garbage"])
def test_without_accounting(slurm: FakeSlurm, sweep: Sweep, fault: str) -> None:
    slurm.fault("sacct", fault)
    assert told(state(sweep)) == ("failed", "cancelled while pending")
    sweep.begin(RUN)
    assert told(state(sweep)) == ("interrupted", "its job is gone")


def test_done(slurm: FakeSlurm, sweep: Sweep) -> None:
    finish(sweep.folder(RUN))
    found = state(sweep)
    assert told(found) == ("done", "")
    assert found.records is not None and found.records.gpu_hours == 1.5
    assert slurm.calls == []


def test_one_that_ends_while_slurm_is_asked_is_done(slurm: FakeSlurm, sweep: Sweep) -> None:
    sweep.begin(RUN)

    def slowly(root: ResultsRoot, unclear: list[claims.Claim]):
        finish(sweep.folder(RUN))
        return ask(root, unclear)

    assert look(ResultsRoot(sweep.root), [RUN], slowly)[0][RUN].name == "done"


def test_as_many_questions_for_any_number_of_runs(slurm: FakeSlurm, tmp_path: Path) -> None:
    """One more for each array of which the queue lacks something."""
    runs = [f"{i:010d}" for i in range(30)]
    sweeps = [Sweep(tmp_path / "results", *runs[i::3], job=str(i)) for i in range(3)]
    for index in range(10):
        slurm.job(sweeps[0].name, "0", index, "RUNNING")
    look(ResultsRoot(tmp_path / "results"), runs)
    queue, accounting, config, *others = [" ".join(call) for call in slurm.calls]
    assert (queue.split()[0], accounting.split()[0], config) == ("squeue", "sacct", "scontrol show config")
    assert sorted(others) == [f"scontrol --oneliner show job {job}" for job in (1, 2)]


@pytest.mark.parametrize(
    ("fault", "trouble"),
    [
        ("Unable to contact slurm controller", "squeue: error: Unable to contact slurm controller"),
        ("timeout", "squeue: no answer within 0 s"),
        ("garbage", "squeue: said 'Warning: this is | not what you asked for', which is no list of jobs"),
        ("binary", "squeue: said"),
    ],
)
def test_slurm_does_not_answer(slurm: FakeSlurm, sweep: Sweep, fault: str, trouble: str) -> None:
    slurm.fault("squeue", fault)
    wait = 0.3 if fault == "timeout" else 20.0
    states, why = look(ResultsRoot(sweep.root), [RUN], lambda root, unclear: ask(root, unclear, wait))
    assert why.startswith(trouble)
    assert told(states[RUN]) == ("queued", "SLURM did not answer")
    sweep.begin(RUN)
    beat(sweep.folder(RUN), 40)
    states, _ = look(ResultsRoot(sweep.root), [RUN], lambda root, unclear: ask(root, unclear, wait))
    assert (states[RUN].name, states[RUN].step) == ("running", 40)


def test_an_attempt_that_ended_does_not_run_whatever_its_heartbeat_says(slurm, sweep: Sweep) -> None:
    sweep.begin(RUN)
    start(sweep.folder(RUN))
    beat(sweep.folder(RUN), 40)
    end(sweep.folder(RUN), "stopped")
    slurm.ended(sweep.name, "7", 0, "CANCELLED by 0")
    assert told(state(sweep)) == ("failed", "cancelled")
    slurm.fault("squeue", "Unable to contact slurm controller")
    states, _ = look(ResultsRoot(sweep.root), [RUN])
    assert told(states[RUN]) == ("unknown", "stopped; SLURM did not answer")


def test_slurm_is_not_installed(slurm: FakeSlurm, sweep: Sweep, monkeypatch) -> None:
    slurm.missing(monkeypatch)
    states, why = look(ResultsRoot(sweep.root), [RUN])
    assert (states[RUN].name, why) == ("queued", "squeue: not found on this machine")


def test_runs_wait_for_what_they_start_from() -> None:
    def named(source: str, own: str) -> RunState:
        return with_sources({"a": RunState(source), "b": RunState(own)}, {"b": "a"})["b"]

    assert told(named("done", "absent")) == ("absent", "")
    assert told(named("running", "absent")) == ("waiting", "starts from a, which is running")
    assert told(named("failed", "queued")) == ("blocked", "starts from a, which has failed")
    assert told(named("failed", "done")) == ("done", "")


def test_a_heartbeat_that_cannot_be_read_stops_nobody(slurm: FakeSlurm, sweep: Sweep) -> None:
    slurm.job(sweep.name, "7", 0, "RUNNING")
    put(sweep.folder(RUN) / "heartbeat.json", None)
    (sweep.folder(RUN) / "heartbeat.json").write_text("{")
    assert state(sweep).name == "running"


def test_gpu_hours_count_a_killed_attempt_up_to_its_heartbeat(slurm: FakeSlurm, sweep: Sweep) -> None:
    folder = sweep.folder(RUN)
    start(folder, 1)
    end(folder, "stopped", 1)
    start(folder, 2, world=2)
    put(folder / "heartbeat.json", {"attempt": 2, "step": 1, "steps": 9, "time": 0, "pid": 1, "host": "x"})
    records = state(sweep).records
    assert records is not None and records.gpu_hours == pytest.approx(1.0)
    beat(folder, 1, age_s=3600)
    put(
        folder / "heartbeat.json",
        {**asdict(given(records.beat)), "time": (records.started or {})["time"] + 1800},
    )
    records = state(sweep).records
    assert records is not None and records.gpu_hours == pytest.approx(2.0)
