"""A record that a disk or a bad copy damaged costs no other run anything, and is named."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
import run_records

from launch.cli import main
from launch.run_states.states import refuse_taken
from launch.slurm import ledger
from vocl.errors import UserError
from vocl.files import write_json
from vocl.rundir import claims
from vocl.rundir.results_root import ResultsRoot
from vocl.rundir.run_dir import RunDir

RUN, OTHER = run_records.PAIR
TORN = ["", "{", "[]", "null", "{}", '{"token": "a"}']
RECORDS = [
    "jobs/0001.json",
    "jobs/0001-start.json",
    "jobs/0001-end.json",
    "heartbeat.json",
    "events/0001-start.json",
    "events/0001-failed.json",
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    run_records.failed_pair(tmp_path)
    return tmp_path


def _told(capsys: pytest.CaptureFixture[str], code: int, *arguments: str) -> str:
    """What a verb says; one line on stderr where it is the user's to see to."""
    assert main(list(arguments)) == code
    out, error = capsys.readouterr()
    assert error.count("\n") == (1 if code == 2 else 0), error
    return out + error


@pytest.mark.parametrize("content", TORN)
@pytest.mark.parametrize("name", RECORDS)
def test_boards_name_the_record_and_show_what_is_known(root: Path, name: str, content: str, capsys) -> None:
    (root / "runs" / RUN / name).write_text(content)
    for verb in ("status", "ls", "why"):
        out = _told(capsys, 0, verb, f"runtime.root={root}")
        assert RUN in out and OTHER in out
        assert verb == "ls" or f"damaged record: {name}" in out
    board = _told(capsys, 0, "status", f"runtime.root={root}")
    assert "2 runs: 2 failed" in board


@pytest.mark.parametrize("content", TORN)
def test_a_run_with_a_damaged_claim_can_be_claimed_once_more(root: Path, content: str) -> None:
    folder = root / "runs" / RUN
    (folder / "jobs" / "0001.json").write_text(content)
    made = claims.make(RunDir(folder), claims.newest(RunDir(folder)), "next", "local")
    assert made is not None and made.number == 2


def test_a_damaged_claim_without_an_end_is_neither_free_nor_done(root: Path, capsys) -> None:
    folder = root / "runs" / RUN
    (folder / "jobs" / "0001.json").write_text("")
    for path in (folder / "jobs" / "0001-end.json", folder / "events" / "0001-failed.json"):
        path.unlink()
    assert "1 failed" in _told(capsys, 0, "status", RUN, f"runtime.root={root}")
    run_records.beat(folder, 6, host=os.uname().nodename)
    assert "1 running" in _told(capsys, 0, "status", RUN, f"runtime.root={root}")
    with pytest.raises(UserError, match="this run is running already, and its claim is damaged"):
        refuse_taken(RunDir(folder))


@pytest.mark.parametrize("content", [*TORN, '{"arguments": [], "runs": [3]}'])
def test_a_damaged_selection_leaves_the_runs_on_the_board(root: Path, content: str, capsys) -> None:
    (root / "by-name" / "pair" / "selection.json").write_text(content)
    for verb in ("status", "ls", "why"):
        out = _told(capsys, 0, verb, f"runtime.root={root}")
        assert RUN in out and OTHER in out
    assert "damaged record: by-name/pair/selection.json" in _told(capsys, 0, "status", f"runtime.root={root}")


@pytest.mark.parametrize("verb", ["status", "ls", "why"])
def test_a_config_that_is_no_text(root: Path, verb: str, capsys) -> None:
    (root / "runs" / RUN / "config.yaml").write_bytes(b"a: \xff\xfe\n")
    assert OTHER in _told(capsys, 0, verb, f"runtime.root={root}")


def test_a_quoted_root_is_the_same_root(root: Path, capsys) -> None:
    assert main(["status", f"runtime.root='{root}'"]) == 0
    assert RUN in capsys.readouterr().out


# ------------------------------------------------------------------------------- what tends and queues


def _tend(it, capsys) -> str:
    capsys.readouterr()
    assert main(["tend", "duo", f"runtime.root={it.root}"]) == 0
    return capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("content", ["", '{"time"', "{}", "[]"])
@pytest.mark.parametrize(
    "name", ["events/0001-start.json", "jobs/0001.json", "jobs/0001-start.json", "config.yaml"]
)
def test_tend_goes_on_with_the_other_runs(sweep, capsys, name: str, content: str) -> None:
    it = sweep()
    run, other = it.ids[:2]
    for each in (run, other):
        it.lost(each, "PREEMPTED")
    (it.folder(run) / name).write_text(content)
    assert f"queued {other} (" in _tend(it, capsys)
    assert it.state(other).name == "queued"
    again = name == "jobs/0001-start.json"  # it began: more is not asked of that record
    assert it.state(run).name == "queued" if again else it.state(run).name in ("failed", "interrupted")
    assert _tend(it, capsys).count("queued ") == 0 or name == "config.yaml"
    assert len(claims.history(RunDir(it.folder(run)))) == (2 if again else 1)


def test_tend_says_why_it_does_not_queue_a_run_again(sweep, capsys) -> None:
    it = sweep()
    run, other = it.ids[:2]
    for each in (run, other):
        it.lost(each, "PREEMPTED")
    (it.folder(run) / "config.yaml").write_bytes(b"seed: \xff\n")
    (it.folder(other) / "events" / "0001-start.json").write_text("{}")
    out = _tend(it, capsys)
    assert f"not queued {run} (none, all, seed 0): {it.folder(run)}/config.yaml:" in out
    assert f"gave up {other} (none, all, seed 1): preempted; damaged record: events/0001-start.json" in out


@pytest.mark.parametrize("content", TORN)
def test_a_damaged_entry_in_the_ledger(sweep, capsys, content: str) -> None:
    """Of one run that was queued apart: nobody knows any more in which job, nor for which cluster."""
    it = sweep()
    run, other = it.ids[:2]
    for each in (run, other):
        it.lost(each, "PREEMPTED")
    assert main(["retry", run, f"runtime.root={it.root}"]) == 0
    entry = it.entry(run)
    path = it.root / "ledger" / f"{entry.token}.json"
    path.write_text(content)
    name = f"damaged record: ledger/{entry.token}.json"
    dead = {"pid": 1, "born": 1, "host": os.uname().nodename}
    claim = it.folder(run) / "jobs" / "0002.json"
    claim.write_text(json.dumps(json.loads(claim.read_text()) | dead))  # its submitter is gone
    assert name in _told(capsys, 0, "why", f"runtime.root={it.root}")
    assert f"queued {other} (" in _tend(it, capsys)
    assert it.state(run).name == "failed" and name in it.state(run).reason
    capsys.readouterr()
    assert main(["retry", run, f"runtime.root={it.root}"]) == 2
    assert f"{path}: damaged" in capsys.readouterr().err
    assert len(claims.history(RunDir(it.folder(run)))) == 2
    project = next(a for a in it.arguments if a.startswith("project="))
    place = (f"runtime.root={it.root}", "cluster=slurm", project)
    assert main(["retry", run, *place, "--new-code"]) == 0
    assert it.state(run).name == "queued"


def test_a_damaged_answer_of_the_scheduler_is_asked_for_again(sweep, capsys) -> None:
    it = sweep()
    entry = it.entry(it.ids[0])
    (it.root / "ledger" / f"{entry.token}.job.json").write_text("{}")
    assert "4 queued" in _told(capsys, 0, "status", "duo", f"runtime.root={it.root}")
    claim = claims.newest(RunDir(it.folder(it.ids[0])))
    assert claim is not None and all(len(claims.history(RunDir(it.folder(run)))) == 1 for run in it.ids)
    assert _tend(it, capsys).startswith("4 runs: 4 queued")


def test_gc_keeps_what_a_run_with_a_damaged_record_may_need(sweep, capsys) -> None:
    it = sweep()
    run, entry = it.ids[0], it.entry(it.ids[0])
    it.lost(run, "PREEMPTED")
    for other in it.ids[1:]:
        it.done(other)
    place, before = f"runtime.root={it.root}", time.time() - 7200
    snapshot = it.root / "snapshots" / str(entry.snapshot)
    for damaged in (it.root / "ledger" / f"{entry.token}.json", it.folder(run) / "jobs" / "0001.json"):
        content = damaged.read_text()
        damaged.write_text("{}")
        for path in it.root.rglob("*"):
            os.utime(path, (before, before), follow_symlinks=False)
        assert main(["gc", "--yes", place]) == 0
        assert snapshot.is_dir() and entry.folder.is_dir()
        damaged.write_text(content)


def test_retry_goes_on_with_the_other_runs(sweep, capsys) -> None:
    it = sweep()
    run, other = it.ids[:2]
    for each in (run, other):
        it.lost(each, "PREEMPTED")
    (it.folder(run) / "config.yaml").write_text("a: [")
    assert f"not queued {run} (none, all, seed 0): {it.folder(run)}/config.yaml" in _told(
        capsys, 2, "retry", "duo", f"runtime.root={it.root}"
    )
    assert it.state(other).name == "queued"


def test_an_entry_that_is_narrowed_keeps_what_it_says(tmp_path: Path) -> None:
    entry = ledger.write(
        ResultsRoot(tmp_path), run_records.cluster("slurm"), [["a"], ["b"]], None, ["x"], {"b": "a"}
    )
    ledger.narrow(entry, [["b"]])
    found = ledger.read(ResultsRoot(tmp_path), entry.token)
    assert found is not None and (found.elements, found.after, found.job) == ([["b"]], {"b": "a"}, None)
    write_json(tmp_path / "ledger" / f"{entry.token}.json", {"token": entry.token})
    assert ledger.read(ResultsRoot(tmp_path), entry.token) is None
    assert ledger.damaged(ResultsRoot(tmp_path), entry.token) == f"ledger/{entry.token}.json"
    assert ledger.damaged(ResultsRoot(tmp_path), "absent") == ""
