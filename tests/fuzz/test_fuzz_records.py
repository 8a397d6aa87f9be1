"""Damaged records of a run: every board still answers, in one line where it cannot, and says the same of
the other run."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from alarm import ends_soon
from mutations import HANG_S, in_bytes, in_json, numbers

from launch.cli import main
from launch.slurm import ledger
from vocl.config.cluster import LocalCluster
from vocl.rundir import claims
from vocl.rundir.results_root import ResultsRoot
from vocl.rundir.run_dir import RunDir

RUN, OTHER = "aaaaaaaaaa", "bbbbbbbbbb"
RECORDS = {  # by what it tells of a run: how many damaged ones of it
    f"runs/{RUN}/result.json": 40,
    f"runs/{RUN}/jobs/0001.json": 25,
    f"runs/{RUN}/jobs/0001-start.json": 15,
    f"runs/{RUN}/jobs/0001-end.json": 20,
    f"runs/{RUN}/heartbeat.json": 20,
    f"runs/{RUN}/events/0001-start.json": 20,
    f"runs/{RUN}/events/0001-failed.json": 20,
    f"runs/{RUN}/metrics.jsonl": 20,
    f"runs/{RUN}/config.yaml": 20,
    "by-name/pair/selection.json": 20,
    "ledger/LEDGER.json": 20,
}
CONFIG = """seed: 0
model:
  _target_: vocl.models.recurrent.Recurrent
  num_slots: 5
train: {steps: 9}
loss:
  feature_mse: {weight: 1.0}
dataset: {name: x}
"""
DONE = f"runs/{RUN}/result.json"
VERBS = (["status"], ["ls"], ["why"], ["gc"], ["tend", "pair"], ["logs", RUN], ["diff", RUN, OTHER])


def _put(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of one table that failed alike, of the same submission, an hour ago."""
    root, then = tmp_path_factory.mktemp("template"), time.time() - 3600
    entry = ledger.write(
        ResultsRoot(root),
        LocalCluster(kind="local", slots=1, wait=False),
        [[RUN], [OTHER]],
        None,
        ["pair"],
        after={},
    )
    path = root / "ledger" / f"{entry.token}.json"
    path.rename(path.with_name("LEDGER.json"))
    for run in (RUN, OTHER):
        folder = root / "runs" / run
        claim = claims.make(RunDir(folder), None, "LEDGER", "local")
        assert claim is not None
        claims.began(claim)
        claims.over(claim, "failed", code=1, line="it broke")
        start = {"attempt": 1, "time": then, "step": 0, "world": 1, "device": "cuda", "code": "c0de"}
        _put(folder / "events" / "0001-start.json", start)
        end = {"time": then + 60, "outcome": "failed", "wall_s": 60.0}
        _put(folder / "events" / "0001-failed.json", end | {"kind": "ValueError", "message": "it broke"})
        beat = {"attempt": 1, "step": 5, "steps": 100, "time": then, "pid": 1, "host": "elsewhere"}
        _put(folder / "heartbeat.json", beat)
        report = {"slots_used": 5.0, "mask_entropy": 0.3, "stage": 0, "steps_per_s": 2.5}
        lines = [json.dumps({"step": step, "loss": 1.0 + step / 100} | report) for step in range(12)]
        (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
        (folder / "config.yaml").write_text(CONFIG)
        (folder / "log.txt").write_text("reading\nit broke\n")
    rows = [{"row": run, "column": "all", "seed": 0, "id": run, "after": None} for run in (RUN, OTHER)]
    _put(root / "by-name" / "pair" / "selection.json", {"arguments": ["pair"], "runs": rows})
    return root


def _result(run: str) -> dict[str, Any]:
    scores = {"video_mbo": 0.5}
    entry = {"eval_id": "0" * 10, "protocol": "vocl", "num_videos": 2, "metrics": scores, "rows": "x"}
    facts = {"schema": 1, "seed": 0, "steps": 9, "wall_s": 60.0, "gpu_hours": 0.5, "code": "c0de"}
    return {"run_id": run, "metrics": scores, "evals": {"discovery": entry}, **facts}


def _copied(template: Path, place: Path, name: str) -> Path:
    root = place / "results"
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(template, root)
    if name == DONE:
        for run in (RUN, OTHER):
            _put(root / "runs" / run / "result.json", _result(run))
    return root


def _asked(root: Path, verb: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main([*verb, f"runtime.root={root}"])
    return code, *capsys.readouterr()


def _of_other(text: str) -> list[str]:
    """What a board says of the other run, but for the widths of its columns."""
    return [" ".join(line.split()) for line in text.splitlines() if OTHER in line]


@pytest.mark.parametrize("name", RECORDS)
def test_a_damaged_record_takes_nothing_from_others(template: Path, tmp_path: Path, name, capsys) -> None:
    root = _copied(template, tmp_path, name)
    whole = (root / name).read_bytes()
    expected = {verb[0]: _of_other(_asked(root, verb, capsys)[1]) for verb in VERBS[:2]}
    for seed in numbers(RECORDS[name]):
        damage = in_json if seed % 2 and name.endswith(".json") else in_bytes
        damaged = damage(whole, seed)
        (root / name).write_bytes(damaged)
        for verb in VERBS:
            told = f"{name}, seed {seed}, {' '.join(verb)}, {damaged[:300]!r}"
            with ends_soon(told, HANG_S):
                try:
                    code, out, error = _asked(root, verb, capsys)
                except BaseException as raised:
                    raise AssertionError(f"{told}: {raised!r}") from raised
            assert code in (0, 1, 2), told
            assert "Traceback" not in error and (code == 0 or error.count("\n") == 1), f"{told}: {error}"
            if verb[0] in expected and "selection" not in name:
                assert code == 0, f"{told}: {error}"
                assert _of_other(out) == expected[verb[0]], told
            if verb[0] == "why" and name != DONE and "selection" not in name:
                assert OTHER in out, told
        if name == DONE:  # what was set aside, or queued
            (root / name).parent.joinpath("result.json.damaged").unlink(missing_ok=True)
