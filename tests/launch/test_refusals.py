"""What SLURM refuses: a mistake is told once, what may pass is tried again, a limit is waited for."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from acting import Sweep, tend_duo
from fake_slurm import FakeSlurm

from launch.cli import main
from launch.slurm import ledger
from launch.slurm.ledger import By
from vocl.rundir import claims
from vocl.rundir.causes import Cause
from vocl.rundir.results_root import ResultsRoot
from vocl.rundir.run_dir import RunDir

Submit = Callable[..., Sweep]


def sent(slurm: FakeSlurm) -> int:
    """How often somebody has tried to submit something."""
    return sum(call[0] == "sbatch" and "--test-only" not in call for call in slurm.calls)


def cause(it: Sweep, run: int = 0) -> Cause | None:
    claim = claims.newest(RunDir(it.folder(it.ids[run])))
    return claim.end["cause"] if claim and claim.end else None


@pytest.mark.parametrize("name", ["temporary-gpu", "infiniband-connectx", "AssocMaxSubmitJobLimit", "socket"])
def test_a_wrong_partition_of_any_name_is_refused_once(slurm, sweep: Submit, capsys, name: str) -> None:
    slurm.is_now(partitions=["gpu"])
    it = sweep(f"cluster.partition={name}")
    error = capsys.readouterr().err
    assert f"invalid partition specified: {name}" in error and "vocl tend" not in error
    assert {it.state(run).name for run in it.ids} == {"absent"}
    assert (sent(slurm), cause(it)) == (1, Cause.REJECTED)
    for _ in range(2):
        assert tend_duo(it) == 0
    assert sent(slurm) == 1
    assert main(["submit", *it.arguments]) == 1  # a person may ask once more
    assert sent(slurm) == 2


def test_a_constraint_that_no_node_has_is_refused_once(slurm, sweep: Submit, capsys) -> None:
    slurm.fault("sbatch", "Batch job submission failed: Invalid feature specification")
    it = sweep("cluster.constraint=infiniband-connectx")
    assert "Invalid feature specification" in capsys.readouterr().err
    assert cause(it) is Cause.REJECTED
    tend_duo(it)
    assert sent(slurm) == 1


def test_a_request_that_has_become_wrong_is_not_repeated(slurm, sweep: Submit, capsys) -> None:
    it = sweep()
    run = it.ids[0]
    it.lost(run, "PREEMPTED")
    slurm.is_now(partitions=["gpu"])
    assert tend_duo(it) == 1
    assert "invalid partition" in capsys.readouterr().out
    assert tend_duo(it) == 0
    assert len(claims.history(RunDir(it.folder(run)))) == 2
    slurm.is_now(partitions=None)
    assert main(["retry", run, f"runtime.root={it.root}"]) == 0
    assert it.state(run).name == "queued"


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"dies": True}, Cause.UNREACHABLE),  # it does not answer
        ({"full": True}, Cause.BUSY),  # it answers, and refuses whatever it is asked
    ],
)
def test_a_controller_that_is_away_or_full_is_tried_again(
    slurm, sweep: Submit, capsys, fault, expected
) -> None:
    slurm.is_now(**fault)
    it = sweep()
    assert "later: vocl tend" in capsys.readouterr().err
    assert cause(it) is expected
    assert tend_duo(it) == 1
    slurm.is_now(dies=False, full=False)
    assert tend_duo(it) == 0
    assert {it.state(run).name for run in it.ids} == {"queued"}


def test_what_slurm_would_take_by_now_is_tried_again_whatever_it_said(slurm, sweep: Submit, capsys) -> None:
    slurm.fault("sbatch", "once something that nobody has seen before")
    it = sweep()
    assert "nobody has seen before; later: vocl tend" in capsys.readouterr().err
    assert cause(it) is Cause.BUSY
    assert tend_duo(it) == 0
    assert {it.state(run).name for run in it.ids} == {"queued"}


def test_an_answer_that_is_none_leaves_it_open(slurm, sweep: Submit) -> None:
    slurm.fault("sbatch", "garbage")
    it = sweep()
    assert cause(it) is Cause.NOT_SENT
    slurm.fault("sbatch", None)
    assert tend_duo(it) == 0
    assert it.state(it.ids[0]).name == "queued"


def test_a_mistake_is_told_of_rather_than_a_limit(slurm, sweep: Submit, declare, capsys) -> None:
    """Where runs of one submission are refused for several causes."""
    slurm.is_now(partitions=["gpu"])
    root = sweep("cluster.partition=gpu", "cluster.max_jobs=3").root
    (left,) = [run for run in (root / "runs").iterdir() if claims.newest(RunDir(run)).end]
    assert claims.newest(RunDir(left)).end["cause"] is Cause.MAX_JOBS
    slurm.is_now(partitions=[])
    lost = next(run for run in (root / "runs").iterdir() if run != left)
    it = Sweep(root, slurm, [], [lost.name])
    it.lost(lost.name, "PREEMPTED")
    assert tend_duo(it) == 1
    assert "invalid partition" in capsys.readouterr().out


def test_a_limit_asks_slurm_nothing_more(slurm, sweep: Submit) -> None:
    slurm.is_now(max_submit=1)
    it = sweep()
    assert [call for call in slurm.calls if "ping" in call or "--test-only" in call] == []
    assert sorted(it.state(run).name for run in it.ids) == ["absent", "absent", "absent", "queued"]


# ------------------------------------------------------------------------- records of earlier versions


def as_before(it: Sweep, **end: object) -> None:
    """The first run's last record is that of a version that knew no causes."""
    (path,) = it.folder(it.ids[0]).glob("jobs/*-end.json")
    path.write_text(json.dumps({"time": 1.0, **end}))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("cluster.max_jobs is reached", Cause.MAX_JOBS),
        ("sbatch: error: AssocMaxSubmitJobLimit", Cause.LIMIT),
        (
            "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
            "unreachable",
        ),
        ("sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying", Cause.BUSY),
        ("sbatch: error: invalid partition specified: temporary-gpu", Cause.REJECTED),
        ("starts from abcdef0123, which is not done", Cause.NO_SOURCE),
        ("its submission was broken off", Cause.BROKEN_OFF),
        ("its submitter died", Cause.SUBMITTER_DIED),
        ("[Errno 28] No space left on device", Cause.NOT_SENT),
    ],
)
def test_a_refusal_that_was_recorded_in_words_alone(slurm, sweep: Submit, line: str, expected: str) -> None:
    slurm.is_now(partitions=[])
    it = sweep()
    as_before(it, outcome="withdrawn", line=line)
    assert (cause(it), it.state(it.ids[0]).reason) == (expected, line)
    slurm.is_now(partitions=None)
    assert tend_duo(it) == 0
    assert it.state(it.ids[0]).name == ("absent" if expected == Cause.REJECTED else "queued")


@pytest.mark.parametrize(
    ("end", "again"),
    [
        ({"outcome": "failed", "reason": "time limit", "line": "time limit"}, True),
        ({"outcome": "failed", "reason": "node failure"}, True),
        ({"outcome": "stopped", "reason": "preempted", "line": "preempted"}, True),
        ({"outcome": "stopped", "code": 75, "line": "requeued 5 times, the most that ..."}, True),
        ({"outcome": "failed", "code": -15, "line": "..."}, True),
        ({"outcome": "failed", "code": 1, "line": "time limit"}, False),  # says the run's own log
        ({"outcome": "failed", "reason": "cancelled"}, False),
        ({"outcome": "failed", "code": -9, "reason": "preempted; its last attempt made no progress"}, False),
        ({"outcome": "failed", "reason": "time limit; resubmitted 3 times, the most that ..."}, False),
        ({"outcome": "failed", "code": 75, "cause": "of a later version"}, False),
    ],
)
def test_an_end_that_was_recorded_in_words_alone(sweep: Submit, end: dict[str, object], again: bool) -> None:
    it = sweep()
    run = it.ids[0]
    it.lost(run, "FAILED")
    claims.over(claims.newest(RunDir(it.folder(run))), "failed")
    as_before(it, **end)
    assert tend_duo(it) == 0
    assert it.state(run).name == ("queued" if again else "failed")


def test_ends_are_recorded_as_code_and_text(sweep: Submit) -> None:
    it = sweep("cluster.max_resubmits=0")
    it.lost(it.ids[0], "PREEMPTED")
    tend_duo(it)
    (path,) = it.folder(it.ids[0]).glob("jobs/*-end.json")
    end = json.loads(path.read_text())
    assert (end["outcome"], end["cause"]) == ("failed", "max_resubmits")
    assert end["reason"].startswith("preempted; resubmitted 0 times")


def test_who_asked_for_a_submission_is_on_record(sweep: Submit) -> None:
    it = sweep()
    run = it.ids[0]
    assert it.entry(run).by is By.USER
    it.lost(run, "PREEMPTED")
    tend_duo(it)
    entry = it.entry(run)
    assert (entry.by, entry.arguments) == (By.TEND, ["duo"])
    path = it.root / "ledger" / f"{entry.token}.json"
    for arguments, by in ((["tend", "duo"], By.TEND), (["duo"], By.USER)):  # of an earlier version
        content = json.loads(path.read_text()) | {"arguments": arguments}
        content.pop("by", None)
        path.write_text(json.dumps(content))
        assert ledger.read(ResultsRoot(it.root), entry.token).by is by


def test_what_tend_queued_before_it_recorded_so_counts(sweep: Submit) -> None:
    it = sweep("cluster.max_resubmits=1")
    run = it.ids[0]
    it.lost(run, "PREEMPTED", 0, 10)
    tend_duo(it)
    path = it.root / "ledger" / f"{it.entry(run).token}.json"
    content = json.loads(path.read_text()) | {"arguments": ["tend", "duo"]}
    del content["by"]
    path.write_text(json.dumps(content))
    it.lost(run, "PREEMPTED", 10, 20)
    tend_duo(it)
    assert cause(it) is Cause.MAX_RESUBMITS
