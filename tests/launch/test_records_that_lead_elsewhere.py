"""Words of records that become parts of paths lead nowhere outside of the results folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from run_records import cluster

from launch.cli import main
from launch.slurm import ledger
from launch.submission import resubmit
from vocl.rundir import claims
from vocl.rundir.results_root import ResultsRoot
from vocl.rundir.run_dir import RunDir

RUN = "aaaaaaaaaa"
ELSEWHERE = ["../../code", "/code", "..", "a/b", "a\0b", "a\n", ""]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "code").mkdir()
    (tmp_path / "r" / "runs" / RUN).mkdir(parents=True)
    return tmp_path / "r"


def claimed(root: Path) -> ledger.Submission:
    entry = ledger.write(ResultsRoot(root), cluster("slurm"), [[RUN]], None, ["pair"])
    assert claims.make(RunDir(root / "runs" / RUN), None, entry.token, "slurm") is not None
    return entry


def change(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("word", ELSEWHERE)
@pytest.mark.parametrize("key", ["snapshot", "token", "elements", "after"])
def test_an_entry_of_the_ledger(root: Path, key: str, word: str) -> None:
    entry = claimed(root)
    values = {"snapshot": word, "token": word, "elements": [[word]], "after": {RUN: word}}
    change(root / "ledger" / f"{entry.token}.json", **{key: values[key]})
    assert ledger.read(ResultsRoot(root), entry.token) is None
    with pytest.raises(ValueError, match="damaged"):
        resubmit.code_of(ResultsRoot(root), RUN, claims.newest(RunDir(root / "runs" / RUN)))


def test_an_entry_by_another_name(root: Path) -> None:
    entry = claimed(root)
    change(root / "ledger" / f"{entry.token}.json", token="0123456789")
    assert ledger.read(ResultsRoot(root), entry.token) is None


@pytest.mark.parametrize("word", ELSEWHERE)
def test_the_token_of_a_claim(root: Path, word: str, tmp_path: Path, capsys) -> None:
    entry = claimed(root)
    outside = tmp_path / "code.json"
    outside.write_bytes((root / "ledger" / f"{entry.token}.json").read_bytes())
    change(root / "runs" / RUN / "jobs" / "0001.json", token=word)
    claim = claims.newest(RunDir(root / "runs" / RUN))
    assert claim is not None and claim.is_lost and claim.damaged == ("jobs/0001.json",)
    assert ledger.read(ResultsRoot(root), word) is None
    assert main(["status", f"runtime.root={root}"]) == 0
    assert "damaged record: jobs/0001.json" in capsys.readouterr().out
