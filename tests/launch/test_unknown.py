"""A job that the queue does not show is not always gone. Where that cannot be known its run is unknown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fake_slurm import FakeSlurm
from run_records import Sweep, beat

import launch.run_states.states
import launch.submission.enqueue
from launch.run_states.states import RunState, look, refuse_taken
from launch.slurm.client import controller
from vocl.errors import UserError
from vocl.rundir import claims
from vocl.rundir.results_root import ResultsRoot
from vocl.rundir.run_dir import RunDir

ONE, TWO, THREE, FOUR = RUNS = [f"{letter}123456789" for letter in "abcd"]
HERE = "made-up@controller"


@pytest.fixture
def sweep(slurm: FakeSlurm, tmp_path: Path) -> Sweep:
    """Four pending jobs of an array."""
    made = Sweep(tmp_path / "results", *RUNS, sent_to=HERE)
    for index in range(len(RUNS)):
        slurm.job(made.name, "7", index, "PENDING", "Priority")
    return made


def states(sweep: Sweep) -> list[RunState]:
    found, trouble = look(ResultsRoot(sweep.root), RUNS)
    assert trouble == ""
    return [found[run] for run in RUNS]


def told(sweep: Sweep) -> set[tuple[str, str]]:
    return {(state.name, state.reason) for state in states(sweep)}


def rewrite(sweep: Sweep, **facts: object) -> None:
    """Other facts in the ledger's entry, of before clusters were recorded."""
    path = sweep.root / "ledger" / f"{sweep.submission.token}.json"
    content = json.loads(path.read_text()) | facts
    del content["sent_to"]
    path.write_text(json.dumps(content))


def test_another_cluster_cannot_tell(slurm: FakeSlurm, sweep: Sweep) -> None:
    slurm.gone(sweep.name)
    slurm.is_now(cluster="other")
    slurm.job("somebody's", "7", 0, "RUNNING")
    assert told(sweep) == {("unknown", "submitted to cluster made-up, this is other")}
    assert states(sweep)[1].job == "7_1"
    with pytest.raises(UserError, match=f"made-up, this is other; .* vocl cancel {ONE} --gone"):
        refuse_taken(RunDir(sweep.folder(ONE)))
    sweep.begin(ONE)
    beat(sweep.folder(ONE), 3)
    assert [state.name for state in states(sweep)] == ["running", *["unknown"] * 3]


def test_two_clusters_of_one_name_are_told_apart_by_their_controllers(slurm: FakeSlurm, sweep: Sweep) -> None:
    """A controller that moved to another machine has accounting to show that it is still the one."""
    slurm.gone(sweep.name)
    slurm.is_now(host="else")
    assert told(sweep) == {("unknown", f"submitted to cluster {HERE}, this is made-up@else")}
    slurm.ended(sweep.name, "7", 0, "TIMEOUT")
    assert [state.name for state in states(sweep)] == ["failed"] * 4


@pytest.mark.parametrize("host", [None, "far"])
def test_without_record_a_submission_is_of_the_cluster_of_its_machine(slurm, sweep: Sweep, host) -> None:
    rewrite(sweep, **({"host": host} if host else {}))
    assert told(sweep) == {("queued", "Priority")}
    slurm.gone(sweep.name)
    if host:
        reason = "submitted on far, nobody recorded to which cluster; this is made-up"
        assert told(sweep) == {("unknown", reason)}
        slurm.ended(sweep.name, "7", 0, "CANCELLED by 0")  # accounting here knows it
    assert told(sweep) == {("failed", "cancelled while pending")}


@pytest.mark.parametrize("lines", [1, 2, 4])
def test_a_list_that_was_cut_makes_no_run_gone(slurm: FakeSlurm, sweep: Sweep, lines: int) -> None:
    slurm.fault("sacct", "accounting storage is disabled")
    slurm.fault("squeue", f"cut {lines}")
    assert told(sweep) == {("queued", "Priority")}
    slurm.gone(sweep.name)
    assert told(sweep) == {("failed", "cancelled while pending")}


@pytest.mark.parametrize(
    ("command", "fault", "trouble"),
    [
        ("squeue", "cut 0", "squeue: said '', which is no list of jobs"),
        ("scontrol", "Socket timed out", "scontrol: error: Socket timed out"),
        ("scontrol", "garbage", "scontrol show config: names no ClusterName and MaxArraySize"),
    ],
)
def test_no_answer_is_no_proof(slurm: FakeSlurm, sweep: Sweep, command, fault, trouble) -> None:
    slurm.gone(sweep.name)
    slurm.fault(command, fault)
    found, why = look(ResultsRoot(sweep.root), RUNS)
    assert why == trouble
    assert {state.name for state in found.values()} == {"queued"}


@pytest.mark.parametrize("said", ["RUNNING", "PENDING", "REQUEUED"])
def test_what_accounting_counts_as_live_is_not_gone(slurm: FakeSlurm, sweep: Sweep, said: str) -> None:
    slurm.gone(sweep.name)
    slurm.ended(sweep.name, "7", 0, said)
    first, *others = states(sweep)
    assert (first.name, first.reason) == ("unknown", f"not in the queue, but accounting says {said}")
    assert {state.name for state in others} == {"failed"}


def test_an_element_cancelled_while_others_wait_is_gone_although_accounting_lags(slurm, sweep: Sweep) -> None:
    """Accounting counts it as pending until the last of its array has begun."""
    slurm.ended(sweep.name, "7", 0, "PENDING")
    first, *others = states(sweep)
    assert (first.name, first.reason) == ("failed", "cancelled while pending")
    assert {state.name for state in others} == {"queued"}


def test_other_users_jobs_that_nobody_is_shown(slurm: FakeSlurm, sweep: Sweep, monkeypatch) -> None:
    slurm.is_now(private=True)
    assert told(sweep) == {("queued", "Priority")}
    owner = sweep.submission.user
    monkeypatch.setenv("LOGNAME", "bob")
    assert told(sweep) == {("unknown", f"a job of {owner}, and this cluster shows nobody another's jobs")}
    sweep.begin(ONE)
    beat(sweep.folder(ONE), 3)
    sweep.over(TWO, "stopped")
    assert [state.name for state in states(sweep)] == ["running", "interrupted", "unknown", "unknown"]
    slurm.is_now(private=False)
    assert [state.name for state in states(sweep)] == ["queued", "interrupted", "queued", "queued"]


@pytest.mark.parametrize("where", [HERE, "other@controller"])
def test_a_submission_that_broke_off_is_withdrawn_where_its_job_is_known_to_be_none(
    slurm: FakeSlurm, tmp_path: Path, monkeypatch, where: str
) -> None:
    sweep = Sweep(tmp_path / "results", ONE, job=None, sent_to=where)
    for module in (launch.submission.enqueue, launch.run_states.states):
        monkeypatch.setattr(module, "is_submitting", lambda claim: False)
    launch.submission.enqueue.recover(ResultsRoot(sweep.root), [ONE])
    claim = claims.newest(RunDir(sweep.folder(ONE)))
    assert claim is not None and claim.is_open == (where != HERE)
    assert look(ResultsRoot(sweep.root), [ONE])[0][ONE].name == ("unknown" if claim.is_open else "absent")


def test_lists_of_elements(slurm: FakeSlurm, monkeypatch) -> None:
    """As SLURM writes them: what is pending in one line, and what it has cut to a length is no answer."""
    line = (
        "JobId=9 ArrayJobId=9 ArrayTaskId={} JobName=n JobState=PENDING,REQUEUED Reason=None NodeList=(null)"
    )
    said = line.format("0,2-3,5-9:2%1")
    monkeypatch.setattr(launch.slurm.client, "ask", lambda *words, timeout: said)
    found = launch.slurm.client.listed("9")
    assert {index for _, index in found} == {0, 2, 3, 5, 7, 9}
    assert {(job.id, job.state, job.node) for job in found.values()} >= {("9_0", "PENDING", "")}
    said = line.format("0,2,11...")
    with pytest.raises(launch.slurm.client.SlurmError, match="which is no job"):
        launch.slurm.client.listed("9")


def test_what_the_controller_says_of_itself(slurm: FakeSlurm) -> None:
    slurm.is_now(private=True)
    found = controller()
    assert (found.cluster, found.max_array_size, found.hides_jobs) == (HERE, 1001, True)
