"""Run folders with the records that jobs leave, made with the code that makes them."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from launch import ledger
from launch.ledger import Submission
from vocl import claims
from vocl.claims import Claim


class Sweep:
    """A results folder with one submission to SLURM, job 7, of the runs `ids`."""

    def __init__(self, root: Path, *ids: str, kind: str = "slurm", job: str | None = "7") -> None:
        self.root, self.claims = root, {}
        self.submission: Submission = ledger.write(root, {"kind": kind}, [[i] for i in ids], None, ["trio"])
        if job:
            ledger.accepted(self.submission, job)
        for run in ids:
            claim = claims.make(root / "runs" / run, None, self.submission.token, kind)
            assert claim is not None
            self.claims[run] = claim

    @property
    def name(self) -> str:
        """Of its job."""
        return self.submission.name

    def table(self, name: str = "trio", **after: str) -> None:
        """Declare its runs as a table: a row per run."""
        rows = [
            {"row": f"row {run}", "column": "all", "seed": 0, "id": run, "after": after.get(run)}
            for run in self.claims
        ]
        put(self.root / "by-name" / name / "selection.json", {"arguments": [name], "runs": rows})

    def begin(self, run: str, node: str = "n1") -> Claim:
        """Its job has started it."""
        claims.began(self.claims[run], job=f"7_{self.submission.index(run)}", node=node, restart=0)
        return self.claims[run]

    def over(self, run: str, outcome: str, **facts: Any) -> None:
        """The agent saw it end."""
        claims.over(self.claims[run], outcome, **facts)

    def folder(self, run: str) -> Path:
        """Of a run."""
        return self.root / "runs" / run


def put(path: Path, content: Any) -> None:
    """A JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def beat(folder: Path, step: int, steps: int = 100, age_s: float = 0.0, host: str = "elsewhere") -> None:
    """A heartbeat."""
    content = {"attempt": 1, "step": step, "steps": steps, "pid": os.getpid(), "host": host}
    put(folder / "heartbeat.json", content | {"time": time.time() - age_s})


def start(folder: Path, attempt: int = 1, age_s: float = 7200.0, **facts: Any) -> None:
    """An attempt begins, on one GPU."""
    event = {"attempt": attempt, "time": time.time() - age_s, "device": "cuda", "world": 1, "code": "c0de"}
    put(folder / "events" / f"{attempt:04d}-start.json", event | facts)


def end(folder: Path, outcome: str, attempt: int = 1, **facts: Any) -> None:
    """An attempt ends."""
    event = {"attempt": attempt, "time": time.time(), "outcome": outcome, "wall_s": 3600.0}
    put(folder / "events" / f"{attempt:04d}-{outcome}.json", event | facts)


def finish(folder: Path, **scores: float) -> None:
    """The run is done."""
    evals = {"discovery": {"eval_id": "0" * 10, "protocol": "vocl", "metrics": scores}}
    put(folder / "result.json", {"gpu_hours": 1.5, "steps": 100, "metrics": scores, "evals": evals})
