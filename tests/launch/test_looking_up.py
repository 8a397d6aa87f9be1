"""The verbs that look up what runs left behind: why, ls, logs, diff."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from run_records import (
    BAD,
    DONE,
    QUEUED,
    RUNNING,
    Sweep,
    end,
    finish,
    start,
    status,
    words,
)

REPOSITORY = Path(__file__).resolve().parents[2]


def test_why(recorded: Sweep, capsys) -> None:
    assert status(recorded, "trio", verb="why") == 0
    out = capsys.readouterr().out
    assert "2 failed: ValueError: video # of RUN is empty" in out
    assert f"such as: ValueError: video 12 of {BAD} is empty" in out
    assert "node: n12, n13; step: 12 to 13" in out
    assert f"record: {recorded.folder(BAD)}/events/0001-failed.json" in out
    assert f"log: {recorded.folder(BAD)}/log.txt" in out and "| reading 12" in out
    assert "1 failed: time limit" in out and "node: n9" in out
    assert out.index("2 failed") < out.index("1 failed")
    assert out.splitlines()[-1].startswith("6 runs: 3 failed; ")


@pytest.mark.parametrize(
    ("kind", "message", "cause"),
    [
        ("NonFinite", "step 7: loss is nan", "NaN: a loss or gradient was not finite"),
        ("OutOfMemoryError", "CUDA out of memory. Tried to allocate 20.00 MiB", "out of memory: the GPU's"),
        (
            "OSError",
            "[Errno 28] No space left on device: '/a/0123456789/b'",
            "OSError: [Errno #] No space left",
        ),
    ],
)
def test_causes(recorded: Sweep, capsys, kind: str, message: str, cause: str) -> None:
    folder = recorded.root / "runs" / "f555555555"
    end(folder, "failed", kind=kind, message=message, traceback="Traceback\n  at line 3")
    assert status(recorded, "f5", verb="why") == 0
    out = capsys.readouterr().out
    assert f"1 failed: {cause}" in out
    assert "| at line 3" in out or "|   at line 3" in out


def test_why_shows_what_the_job_printed_where_the_run_never_began(recorded: Sweep, slurm, capsys) -> None:
    log = recorded.root / "ledger" / recorded.submission.token / "7_2_0_log.out"
    log.parent.mkdir()
    log.write_text("module: command not found\n")
    slurm.ended(recorded.name, "7", 2, "FAILED", "127:0")
    assert status(recorded, QUEUED, verb="why") == 0
    out = capsys.readouterr().out
    assert "1 failed: job failed, exit code #:#" in out and "| module: command not found" in out


def test_why_not(recorded: Sweep, capsys) -> None:
    assert status(recorded, DONE, verb="why") == 0
    assert capsys.readouterr().out == "1 run: none failed or interrupted\n"


def config(folder: Path, **model: object) -> None:
    content = {
        "seed": 3,
        "train": {"steps": 100, "lr": 0.0004, "precision": "fp32"},
        "model": {"_target_": "vocl.models.recurrent.Recurrent", **model},
        "backbone": {"_target_": "vocl.nn.backbones.vit.Timm", "name": "dino_s16", "norm": True},
        "loss": {"feature_mse": {}, "slot_contrast": {}},
        "dataset": {"name": "movi_c"},
        "runtime": {"root": str(folder)},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ([], {DONE, RUNNING}),
        (["model.num_slots=7"], {DONE}),
        (["model.num_slots=7.0", "seed=3"], {DONE}),
        (["model.num_slots=1*"], {RUNNING}),
        (["train.lr=4e-4"], {DONE, RUNNING}),
        (["backbone.norm=true"], {DONE, RUNNING}),
        (["backbone.norm=1"], set()),
        (["dataset=movi_*", "model=Recurrent"], {DONE, RUNNING}),
        (["loss=[slot_contrast,feature_mse]"], {DONE, RUNNING}),
        (["loss=[feature_mse]"], set()),
    ],
)
def test_ls(recorded: Sweep, capsys, filters: list[str], found: set[str]) -> None:
    config(recorded.folder(DONE), num_slots=7)
    config(recorded.folder(RUNNING), num_slots=11)
    assert status(recorded, DONE, RUNNING, *filters, verb="ls") == 0
    out = capsys.readouterr().out
    assert {run for run in (DONE, RUNNING) if run in out} == found
    assert out.endswith(f"{len(found)} of 2 runs\n")


def test_ls_tells_what_a_run_is(recorded: Sweep, capsys) -> None:
    config(recorded.folder(DONE), num_slots=7)
    assert status(recorded, "trio", "model.num_slots=7", verb="ls") == 0
    out = capsys.readouterr().out
    assert "Recurrent 7 slots dino_s16 movi_c feature_mse+slot_contrast 100 steps" in out
    assert words(out, DONE)[:7] == [DONE, "done", "trio", "row", DONE, "all", "0"]
    assert status(recorded, "model.num_slot=7", verb="ls") == 2
    assert capsys.readouterr().err == "model.num_slot: no run's config has this key\n"
    scored = {"eval_id": "0" * 10, "protocol": "vocl", "num_videos": 2, "rows": ""}
    scored["metrics"] = {"video_mbo": 0.5}
    result = json.loads((recorded.folder(DONE) / "result.json").read_text())
    (recorded.folder(DONE) / "result.json").write_text(json.dumps(result | {"evals": {"discovery": scored}}))
    assert status(recorded, "video_mbo>0.4", verb="ls") == 0
    assert DONE in capsys.readouterr().out
    for asked, choices in (("video_mbO", "video_mbo"), ("discovery/mbo", "discovery/video_mbo")):
        assert status(recorded, f"{asked}>0.4", verb="ls") == 2
        assert capsys.readouterr().err == f"{asked}: no run has this score, choose from {choices}\n"
    assert status(recorded, "demo", verb="ls") == 2
    assert "no ablation that was submitted" in capsys.readouterr().err


def test_logs(recorded: Sweep, capsys) -> None:
    (recorded.folder(DONE) / "log.txt").write_text("".join(f"line {i}\n" for i in range(50)) + "last")
    assert status(recorded, "a0", "-n", "2", verb="logs") == 0
    assert capsys.readouterr().out == "line 49\nlast"
    assert status(recorded, "a0", "-n3", verb="logs") == 0
    assert capsys.readouterr().out == "line 48\nline 49\nlast"
    assert status(recorded, "a0", verb="logs") == 0
    assert capsys.readouterr().out.startswith("line 21\n")
    for arguments in (["nosuch"], [QUEUED], ["-n", "x", DONE], []):
        assert status(recorded, *arguments, verb="logs") == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_logs_follow(recorded: Sweep) -> None:
    path = recorded.folder(QUEUED) / "log.txt"
    command = [sys.executable, "-m", "launch.cli", "logs", QUEUED, "-f", f"runtime.root={recorded.root}"]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    time.sleep(0.3)
    path.write_text("first\n")
    assert process.stdout.readline() == "first\n"
    with path.open("a") as log:
        log.write("second\n")
    assert process.stdout.readline() == "second\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0


def test_diff(recorded: Sweep, capsys) -> None:
    for run, slots, code in ((DONE, 7, "aaa"), (BAD, 11, "bbb")):
        config(recorded.folder(run), num_slots=slots)
        start(recorded.folder(run), code=code, commit="123")
    finish(recorded.folder(BAD), video_mbo=0.75)
    assert status(recorded, DONE, BAD, verb="diff") == 0
    out = capsys.readouterr().out
    assert "  model.num_slots: 7 -> 11" in out and "runtime" not in out
    assert words(out, "code") == ["code", "aaa", "bbb", "differs"]
    assert words(out, "commit") == ["commit", "123", "123"]
    assert words(out, "video_mbo") == ["video_mbo", "0.5", "0.75", "+0.25"]
    assert words(out, "video_ari") == ["video_ari", "0.25", "-"]
    assert status(recorded, DONE, verb="diff") == 2
