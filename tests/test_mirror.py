"""W&B is a view: it shows what the records say, once, and can do nothing to the training."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time

import numpy as np
import pytest
import torch
import wandb_files
from running import at_step, child, final, result, run_folder, same, send, tiny, wait
from wandb_server import KEY, server

from launch.commands.sharing import sync
from vocl import run
from vocl.rundir import provenance
from vocl.tracking import mirror
from vocl.tracking.mirror import Mirror

SECRET = "hidden-value-0123456789"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """A machine that is shared may need longer to start the client than a user wants to wait."""
    monkeypatch.setattr(mirror, "FLUSH_S", 40.0)
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("VENDOR_API_KEY", SECRET)


@pytest.fixture
def weights(tmp_path):
    """The state at the end of the run that nothing disturbs and nobody mirrors."""
    config = tiny(tmp_path / "plain")
    assert run.run(config) == 0
    return final(config)


def tracked(root, mode, *overrides):
    return tiny(root, f"runtime.tracking={mode}", *overrides)


def records(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def killed_once(config, step, monkeypatch, ready):
    """Train in a child that is killed in the middle of `step`, once `ready()` holds."""

    def act():
        until = time.monotonic() + 40
        while not ready() and time.monotonic() < until:
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        at_step(patch, step, act)
        assert wait(child(lambda: run.run(config))) == -signal.SIGKILL


def only(lines):
    return [line for line in lines.splitlines() if "W&B" in line]


@pytest.mark.slow
def test_offline_through_a_stop_and_a_kill(tmp_path, weights, monkeypatch, capfd):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    config = tracked(tmp_path / "torn", "offline")
    folder = run_folder(config)
    with monkeypatch.context() as patch:
        at_step(patch, 2, send(signal.SIGTERM))
        assert run.run(config) == 75
    first = wandb_files.folders(folder)
    assert [row["step"] for row in wandb_files.rows(first[0])] == [0, 1, 2]

    def ready():
        found = wandb_files.folders(folder)
        return len(found) == 2 and len(wandb_files.rows(found[1])) > 3

    killed_once(config, 8, monkeypatch, ready)  # the last checkpoint is that of step 5
    torn = wandb_files.folders(folder)[1]
    assert wandb_files.rows(torn)[-1]["step"] > 5
    assert run.run(config) == 0
    same(final(config), weights)

    found = wandb_files.folders(folder)
    assert len(found) == 2 and found[0] == first[0] and torn not in found
    shown = [row for path in found for row in wandb_files.rows(path)]
    assert shown == records(folder) and [row["step"] for row in shown] == list(range(12))
    for path in found:
        opened = wandb_files.opened(path)
        assert opened.run_id == folder.name == config.run_id
        assert opened.run_group == config.cell_id() and opened.project == "vocl"
        values = {item.key: json.loads(item.value_json) for item in opened.config.update}
        assert values["model"] == config.model and values["seed"] == 0 and "runtime" not in values
        assert values["version"]["code"] == provenance.code_digest(None)
    scores = result(config)["metrics"]
    summary = wandb_files.summary(found[-1])
    assert summary["discovery/video_fg_ari"] == scores["video_fg_ari"] and summary["outcome"] == "done"
    assert only(capfd.readouterr().err) == []

    with server() as runs:
        monkeypatch.setenv("WANDB_BASE_URL", runs.url)
        assert sync.main([str(folder)]) == 0
        seen = runs.runs[folder.name]
        shown = [{k: v for k, v in row.items() if not k.startswith("_")} for row in seen["history"]]
        assert shown == records(folder)
        assert seen["summary"]["discovery/video_fg_ari"] == scores["video_fg_ari"]
        assert seen["states"][-1] == {"exitcode": 0}
        sent = len(runs.bodies)
        assert sync.main([str(folder)]) == 0
        assert len(runs.bodies) == sent  # nothing twice
        assert not any(SECRET.encode() in body or KEY.encode() in body for body in runs.bodies)
    files = [path for path in folder.rglob("*") if path.is_file()]
    for secret in (SECRET, KEY):
        assert not any(secret.encode() in path.read_bytes() for path in files)
    assert not any(str(provenance.REPOSITORY).encode() in path.read_bytes() for path in found)


@pytest.mark.slow
def test_online_a_killed_attempt_leaves_no_step_twice(tmp_path, weights, monkeypatch, capfd):
    config = tracked(tmp_path / "torn", "online")
    folder = run_folder(config)
    with server() as runs:
        monkeypatch.setenv("WANDB_BASE_URL", runs.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        killed_once(config, 8, monkeypatch, lambda: len(_history(runs, folder)) > 6)
        assert run.run(config) == 0
        assert [row["step"] for row in _history(runs, folder)] == list(range(12))
        want = {row["step"]: row["loss"] for row in records(folder)}
        assert {row["step"]: row["loss"] for row in _history(runs, folder)} == want
        assert sync.main([str(folder)]) == 0
        assert len(_history(runs, folder)) == 12
    same(final(config), weights)
    assert only(capfd.readouterr().err) == []


def _history(runs, folder):
    return runs.runs.get(folder.name, {"history": []})["history"]


@pytest.mark.slow
@pytest.mark.parametrize("key", ["wrong", KEY])
def test_no_server_no_key(tmp_path, weights, monkeypatch, capfd, key):
    monkeypatch.setattr(mirror, "FLUSH_S", 12.0)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", key)
    config = tracked(tmp_path, "online")
    began = time.monotonic()
    assert run.run(config) == 0
    assert time.monotonic() - began < 16
    same(final(config), weights)
    (line,) = only(capfd.readouterr().err)
    assert "not affected" in line and folder_name(config) in line


def folder_name(config):
    return run_folder(config).name


def test_a_place_that_cannot_be_written(tmp_path, weights, capfd):
    config = tracked(tmp_path, "offline")
    folder = run_folder(config)
    folder.mkdir(parents=True)
    (folder / "wandb").write_text("in the way")
    assert run.run(config) == 0
    same(final(config), weights)
    (line,) = only(capfd.readouterr().err)
    assert "FileExistsError" in line


@pytest.mark.parametrize(
    "script", ["import time; time.sleep(60)", "raise SystemExit(3)", "import os; os.abort()"]
)
def test_a_client_that_hangs_or_dies(tmp_path, weights, monkeypatch, capfd, script):
    monkeypatch.setattr(mirror, "FLUSH_S", 1.0)
    monkeypatch.setattr(mirror, "command", lambda *_: [sys.executable, "-c", script])
    config = tracked(tmp_path, "offline")
    began = time.monotonic()
    assert run.run(config) == 0
    assert time.monotonic() - began < 5
    same(final(config), weights)
    assert len(only(capfd.readouterr().err)) == 1


def test_a_machine_that_starts_no_process(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(mirror, "command", lambda *_: [str(tmp_path / "absent")])
    assert run.run(tracked(tmp_path, "offline")) == 0
    assert "cannot be started" in only(capfd.readouterr().err)[0]


def test_it_draws_no_random_number_and_takes_no_signal(tmp_path, monkeypatch):
    monkeypatch.setattr(mirror, "command", lambda *_: [sys.executable, "-c", "input()"])

    def world():
        handlers = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)]
        draws = random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()
        return *draws, handlers, "wandb" in sys.modules

    before = world()
    view = Mirror(tmp_path, "offline", "vocl", None)
    view.start()
    view.check()
    view.close()
    assert world() == before
