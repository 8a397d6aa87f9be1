"""Rows that start from the weights of other rows: what runs when, and what waits."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from acting import Sweep
from fake_slurm import FakeSlurm

import launch.slurm.client
import launch.slurm.sbatch
import launch.submission.local
from launch.agent import Agent
from launch.cli import main
from launch.selection.plan import select
from launch.slurm.refusals import Refused
from launch.submission import snapshot
from launch.submission.tend_job import LEFT_OUT_S
from vocl.rundir import claims
from vocl.rundir.causes import Cause
from vocl.rundir.run_dir import RunDir

CHAIN = """
rows:
  longer: {train.steps: 20, warm_start: {row: long, take: ["*"]}}
  long: {train.steps: 9, warm_start: {row: short, take: ["*"]}}
  short: {train.steps: 5}
seeds: [0]
metrics: [video_mbo]
"""
ROWS = ("short", "long", "longer")
TRAINER = """
import json, sys
from pathlib import Path
folder = Path(sys.argv[1]).parent
with open(folder.parent.parent / "order", "a") as order:
    print(folder.name, file=order)
if (folder.parent.parent / "break").exists():
    sys.exit(1)
(folder / "result.json").write_text(json.dumps({"run_id": folder.name, "metrics": {}, "evals": {}}))
"""


@dataclass
class Chain:
    """The declared table, its results folder, and the run id of each row."""

    root: Path
    arguments: list[str]
    ids: dict[str, str]

    def submit(self, cluster: str) -> int:
        return main(["submit", *self.arguments, f"cluster={cluster}"])

    def claim(self, row: str) -> claims.Claim | None:
        return claims.newest(RunDir(self.root / "runs" / self.ids[row]))


@pytest.fixture
def chain(declare: Callable[..., str], tmp_path: Path) -> Chain:
    arguments = ["chain", declare(CHAIN, "chain"), f"runtime.root={tmp_path}/results"]
    return Chain(tmp_path / "results", arguments, {s.row: s.id for s in select(arguments).specs})


def dependency(chain: Chain, row: str) -> str:
    """What the newest job of a row waits for, as its script says."""
    claim = chain.claim(row)
    assert claim is not None
    (script,) = (chain.root / "ledger" / claim.token).glob("*submission.sh")
    found = re.search(r"^#SBATCH --dependency=(.*)$", script.read_text(), re.MULTILINE)
    return found[1] if found else ""


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "trainer.py"
    script.write_text(TRAINER)
    monkeypatch.setattr(launch.submission.local, "TRAIN", (sys.executable, "-S", str(script)))


def test_local_runs_begin_when_their_source_is_done(chain: Chain, trainer: None) -> None:
    assert main(["submit", *chain.arguments, "cluster=local", "cluster.slots=3"]) == 0
    assert (chain.root / "order").read_text().split() == [chain.ids[row] for row in ROWS]


def test_local_runs_whose_source_failed_do_not_begin(chain: Chain, trainer: None, capsys) -> None:
    chain.root.mkdir()
    (chain.root / "break").touch()
    assert chain.submit("local") == 1
    assert (chain.root / "order").read_text().split() == [chain.ids["short"]]
    err = capsys.readouterr().err
    assert f"not started: {chain.ids['long']} (long, all, seed 0): starts from {chain.ids['short']}" in err
    claim = chain.claim("longer")
    assert claim is not None and claim.end is not None and claim.end["outcome"] == "withdrawn"


def test_each_array_waits_for_the_one_before(chain: Chain, slurm: FakeSlurm, capsys) -> None:
    assert main(["plan", *chain.arguments, "cluster=slurm"]) == 0
    assert capsys.readouterr().out.count("to queue: 1 array, 1 jobs") == 3
    assert chain.submit("slurm") == 0
    assert [dependency(chain, row) for row in ROWS] == ["", "afterany:100", "afterany:101"]


def test_the_arrays_of_one_submit_have_one_code(chain: Chain, slurm: FakeSlurm, monkeypatch) -> None:
    """Also when the checkout is edited between them."""
    take, taken = snapshot.take, []

    def counted(*arguments: Any) -> Path:
        taken.append(arguments)
        return take(*arguments)

    monkeypatch.setattr(snapshot, "take", counted)
    assert chain.submit("slurm") == 0
    assert len(taken) == 1 and len(slurm.jobs) == 3


def test_a_run_whose_source_failed_is_not_queued(chain: Chain, slurm: FakeSlurm, capsys) -> None:
    folder = chain.root / "runs" / chain.ids["short"]
    claim = claims.make(RunDir(folder), None, "token", "slurm")
    assert claim is not None
    claims.over(claim, "failed", code=1, line="it broke")
    assert chain.submit("slurm") == 1
    assert (
        f"not queued: 2 runs: starts from {chain.ids['short']}, which is not done" in capsys.readouterr().err
    )
    assert not [call for call in slurm.calls if call[0] == "sbatch"]


def test_a_job_that_is_let_go_without_its_source_gives_its_run_back(
    chain: Chain, slurm: FakeSlurm, monkeypatch
) -> None:
    """`afterany`: its source was lost and will run again, in another job."""
    assert chain.submit("slurm") == 0
    claim = chain.claim("long")
    assert claim is not None
    agent = Agent(str(chain.root), claim.token)
    agent.work()
    claim = chain.claim("long")
    assert claim is not None and claim.start is None and claim.end is not None
    assert claim.end["line"] == f"starts from {chain.ids['short']}, which is not done"

    sweep = Sweep(chain.root, slurm, [*chain.arguments, "cluster=slurm"], list(chain.ids.values()))
    sweep.ends(chain.ids["long"], "COMPLETED")
    sweep.done(chain.ids["short"])
    before = len(slurm.calls)
    assert main(["tend", "chain", f"runtime.root={chain.root}"]) == 0
    assert len([call for call in slurm.calls[before:] if call[0] == "sbatch"]) == 1
    claim = chain.claim("long")
    assert claim is not None and claim.number == 2 and claim.end is None
    assert dependency(chain, "long") == ""


def test_an_env_file_that_others_may_read_is_refused(
    chain: Chain, slurm: FakeSlurm, tmp_path, capsys
) -> None:
    file = tmp_path / "secrets.env"
    words = [*chain.arguments, "cluster=slurm", f"cluster.env_file={file}"]
    assert main(["submit", *words]) == 2
    assert capsys.readouterr().err == f"cluster.env_file={file}: no such file\n"
    file.write_text("WANDB_API_KEY=x\n")
    file.chmod(0o644)
    assert main(["submit", *words]) == 2
    assert capsys.readouterr().err == f"cluster.env_file={file}: others may read it; chmod 600 {file}\n"
    file.chmod(0o600)
    assert main(["submit", *words]) == 0
    assert slurm.jobs


def test_tend_leaves_alone_what_a_failed_source_blocks(chain: Chain, slurm: FakeSlurm, capsys) -> None:
    assert chain.submit("slurm") == 0
    sweep = Sweep(chain.root, slurm, [*chain.arguments, "cluster=slurm"], list(chain.ids.values()))
    claim = chain.claim("short")
    assert claim is not None
    claims.over(claim, "failed", code=1, line="it broke")
    sweep.ends(chain.ids["short"], "FAILED")
    for row in ("long", "longer"):
        claim = chain.claim(row)
        assert claim is not None
        Agent(str(chain.root), claim.token).work()
        sweep.ends(chain.ids[row], "COMPLETED")
    calls = len([call for call in slurm.calls if call[0] == "sbatch"])
    capsys.readouterr()
    assert main(["tend", "chain", f"runtime.root={chain.root}", "--watch"]) == 0  # and does not wait for ever
    assert "2 blocked, 1 failed" in capsys.readouterr().out
    assert len([call for call in slurm.calls if call[0] == "sbatch"]) == calls


def test_a_tending_job_waits_for_no_job_where_only_runs_without_one_wait(
    chain: Chain, slurm: FakeSlurm, monkeypatch
) -> None:
    assert chain.submit("slurm") == 0
    sweep = Sweep(chain.root, slurm, [*chain.arguments, "cluster=slurm"], list(chain.ids.values()))
    for row in ("longer", "long"):
        claim = chain.claim(row)
        assert claim is not None
        Agent(str(chain.root), claim.token).work()  # gives its run back
        sweep.ends(chain.ids[row], "COMPLETED")
    sweep.lost(chain.ids["short"], "PREEMPTED")

    def full(*arguments):
        raise Refused("sbatch: error: AssocMaxSubmitJobLimit", Cause.LIMIT)

    monkeypatch.setattr(launch.slurm.sbatch, "submit", full)
    before = len(slurm.calls)
    assert main(["tend", "chain", f"runtime.root={chain.root}", "--arm"]) == 0
    (call,) = [call for call in slurm.calls[before:] if call[0] == "sbatch"]
    assert f"--begin=now+{LEFT_OUT_S}" in call
    assert not [word for word in call if word.startswith("--dependency")]
