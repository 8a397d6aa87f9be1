"""Run folders with the records that jobs leave, made with the code that makes them."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from fake_slurm import FakeSlurm

from launch.cli import main
from launch.slurm import ledger
from launch.slurm.ledger import Submission
from vocl.config.cluster import Cluster
from vocl.config.migrate import section_of_today
from vocl.config.run_config import cluster_of
from vocl.rundir import claims
from vocl.rundir.claims import Claim
from vocl.rundir.results_root import ResultsRoot
from vocl.rundir.run_dir import RunDir
from vocl.tracking.track import Track

DONE, RUNNING, QUEUED, BAD, WORSE, LATE = (f"{letter}{'0' * 8}1" for letter in "abcdef")


TRIO = """
title: Three
base: {train.steps: 7}
rows:
  none: {loss: [feature_mse]}
  video: {loss.slot_contrast.group: 1}
  batch: {}
seeds: [0, 1]
metrics: [video_fg_ari, video_mbo]
"""


def cluster(kind: str, **changes: Any) -> Cluster:
    """A cluster of `kind` as conf/ has it, but for `changes`."""
    return cluster_of(section_of_today("cluster", {"kind": kind, **changes}))


class Sweep:
    """A results folder with one submission to SLURM, job 7, of the runs `ids`."""

    def __init__(
        self, root: Path, *ids: str, kind: str = "slurm", job: str | None = "7", sent_to: str | None = None
    ) -> None:
        self.root, self.claims = root, {}
        self.submission: Submission = ledger.write(
            ResultsRoot(root), cluster(kind), [[i] for i in ids], None, ["trio"], sent_to=sent_to
        )
        if job:
            ledger.accepted(self.submission, job)
        for run in ids:
            claim = claims.make(RunDir(root / "runs" / run), None, self.submission.token, kind)
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
    """A heartbeat, written so long ago."""
    content = {"attempt": 1, "step": step, "steps": steps, "pid": os.getpid(), "host": host}
    put(folder / "heartbeat.json", content | {"time": time.time() - age_s})
    os.utime(folder / "heartbeat.json", (time.time() - age_s,) * 2)


def start(folder: Path, attempt: int = 1, age_s: float = 7200.0, **facts: Any) -> None:
    """An attempt begins, on one GPU."""
    event = {"attempt": attempt, "time": time.time() - age_s, "device": "cuda", "world": 1, "code": "c0de"}
    event["step"] = 0
    put(folder / "events" / f"{attempt:04d}-start.json", event | facts)


def end(folder: Path, outcome: str, attempt: int = 1, **facts: Any) -> None:
    """An attempt ends."""
    event = {"attempt": attempt, "time": time.time(), "outcome": outcome, "wall_s": 3600.0}
    put(folder / "events" / f"{attempt:04d}-{outcome}.json", event | facts)


def finish(folder: Path, **scores: float) -> None:
    """The run is done."""
    put(folder / "result.json", {**result(folder.name, **scores), "gpu_hours": 1.5, "steps": 100})


def result(run: str, **scores: float | None) -> dict[str, Any]:
    """What the record of a finished run must hold: these scores of one evaluation."""
    entry = {"eval_id": "0" * 10, "protocol": "vocl", "num_videos": 2, "metrics": scores, "rows": "x"}
    return {"run_id": run, "metrics": scores, "evals": {"discovery": entry}}


def reports(folder: Path, losses: list[float], **facts: float) -> None:
    """Lines of metrics.jsonl as the training writes them."""
    (folder / "metrics.jsonl").unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    track = Track(RunDir(folder), 100, progress=False)
    for i, loss in enumerate(losses):
        track.step(i * 5, norm=1.0, clip=None)
        line = {"loss": loss, "term.loss": 9.0, "slots_used": 5.0, "mask_entropy": 0.3, "stage": 0.0, **facts}
        track.log(i * 5, line | {"stage": int(line["stage"])})


PAIR = ("aaaaaaaaaa", "bbbbbbbbbb")


def failed_pair(root: Path) -> list[Path]:
    """The two runs `PAIR` of one table, failed alike, with a record of every kind; their folders."""
    folders = [root / "runs" / run for run in PAIR]
    for folder in folders:
        claim = claims.make(RunDir(folder), None, "token", "local")
        assert claim is not None
        claims.began(claim)
        start(folder)
        beat(folder, 5, age_s=3600)
        end(folder, "failed", kind="ValueError", message="it broke")
        claims.over(claim, "failed", code=1, line="it broke")
        (folder / "config.yaml").write_text("seed: 0\n")
    rows = [{"row": run, "column": "all", "seed": 0, "id": run, "after": None} for run in PAIR]
    put(root / "by-name" / "pair" / "selection.json", {"arguments": ["pair"], "runs": rows})
    return folders


def six_runs(root: Path, slurm: FakeSlurm) -> Sweep:
    """One run done, one running, one queued, two that failed alike, one that reached its time limit."""
    sweep = Sweep(root, DONE, RUNNING, QUEUED, BAD, WORSE, LATE)
    sweep.table()
    finish(sweep.folder(DONE), video_mbo=0.5, video_ari=0.25)
    sweep.begin(RUNNING)
    reports(sweep.folder(RUNNING), [1.0] * 12)
    beat(sweep.folder(RUNNING), 50)
    slurm.job(sweep.name, "7", 1, "RUNNING", node="n2")
    slurm.job(sweep.name, "7", 2, "PENDING", "Priority")
    for step, run in ((12, BAD), (13, WORSE)):
        sweep.begin(run, f"n{step}")
        start(sweep.folder(run))
        beat(sweep.folder(run), step, age_s=3600)
        end(sweep.folder(run), "failed", kind="ValueError", message=f"video {step} of {run} is empty")
        (sweep.folder(run) / "log.txt").write_text(f"reading {step}\nfailed: ValueError\n")
        sweep.over(run, "failed", code=1, line="failed: ValueError")
    sweep.begin(LATE)
    slurm.ended(sweep.name, "7", 5, "TIMEOUT", node="n9")
    return sweep


def status(sweep: Sweep, *arguments: str, verb: str = "status") -> int:
    return main([verb, *arguments, f"runtime.root={sweep.root}"])


def words(text: str, beginning: str) -> list[str]:
    """Of the line with this word."""
    (line,) = [line for line in text.splitlines() if beginning in line]
    return line.split()
