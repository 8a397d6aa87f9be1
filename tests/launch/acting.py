"""Submitted runs on a fake SLURM, and what becomes of them."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path

from fake_slurm import FakeSlurm
from run_records import result

from launch.cli import main
from launch.run_states.states import RunState, look
from launch.slurm import ledger
from vocl.rundir import claims
from vocl.rundir.results_root import ResultsRoot
from vocl.rundir.run_dir import RunDir


@dataclass
class Sweep:
    """The runs `ids` under `root`, submitted by `vocl submit *arguments`."""

    root: Path
    slurm: FakeSlurm
    arguments: list[str]
    ids: list[str]

    def folder(self, run: str) -> Path:
        return self.root / "runs" / run

    def entry(self, run: str) -> ledger.Submission:
        claim = claims.newest(RunDir(self.folder(run)))
        assert claim is not None
        found = ledger.read(ResultsRoot(self.root), claim.token)
        assert found is not None
        return found

    def state(self, run: str) -> RunState:
        return look(ResultsRoot(self.root), [run])[0][run]

    def starts(self, run: str, step: int = 0) -> None:
        """Its job begins on a node and trains from `step`."""
        entry = self.entry(run)
        place = (entry.name, str(entry.job), entry.index(run))
        self.slurm.job(*place, "RUNNING", node="n1")
        claim = claims.newest(RunDir(self.folder(run)))
        assert claim is not None
        claims.began(claim, job=f"{place[1]}_{place[2]}")
        events = self.folder(run) / "events"
        events.mkdir(exist_ok=True)
        number = len(list(events.glob("*-start.json"))) + 1
        start = {"attempt": number, "time": time.time(), "step": step, "world": 1, "device": "cuda"}
        (events / f"{number:04d}-start.json").write_text(json.dumps(start))

    def saves(self, run: str, step: int) -> None:
        """A checkpoint of `step`."""
        folder = self.folder(run) / "checkpoints"
        folder.mkdir(exist_ok=True)
        content = f"{run} {step}".encode()
        digest = hashlib.blake2b(content, digest_size=8).hexdigest()
        (folder / f"{step:09d}-{digest}.pt").write_bytes(content)

    def ends(self, run: str, state: str) -> None:
        """Its job leaves the queue, as accounting tells; the agent says nothing."""
        entry = self.entry(run)
        self.slurm.ended(entry.name, str(entry.job), entry.index(run), state)

    def lost(self, run: str, state: str, begins: int = 0, saved: int = 10) -> None:
        """It trains from step `begins`, saves at `saved`, and its job is taken from it."""
        self.starts(run, begins)
        self.saves(run, saved)
        self.ends(run, state)

    def done(self, run: str) -> None:
        """It finishes."""
        self.starts(run)
        self.ends(run, "COMPLETED")
        claim = claims.newest(RunDir(self.folder(run)))
        assert claim is not None
        claims.over(claim, "done", code=0)
        (self.folder(run) / "result.json").write_text(json.dumps(result(run)))


def tend_duo(sweep: Sweep, *options: str) -> int:
    """`vocl tend` of the runs that were submitted as ablation `duo`; its exit code."""
    return main(["tend", "duo", f"runtime.root={sweep.root}", *options])
