"""`vocl sync`: what is uploaded, in which order, and what it says when it cannot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest
import yaml

from launch import cli
from launch.commands.sharing import sync
from vocl.ops.narrow import given
from vocl.rundir.result import Result
from vocl.rundir.run_dir import RunDir
from vocl.tracking import mirror
from vocl.tracking.shown import digest

# Stands for `wandb sync FOLDER`: notes its argument, and marks the folder unless told to fail.
FAKE = """
import os, pathlib, sys
folder = pathlib.Path(sys.argv[1])
with open(os.environ["FAKE_LOG"], "a") as log:
    print(folder.name, file=log)
if folder.name == os.environ.get("FAKE_FAILS"):
    print("wandb: ERROR no such project")
else:
    for file in folder.glob("*.wandb"):
        file.with_suffix(".wandb.synced").touch()
"""


@pytest.fixture
def client(tmp_path, monkeypatch):
    """Puts the fake in the client's place; returns the names of the folders it was given."""
    (tmp_path / "fake.py").write_text(FAKE)
    monkeypatch.setattr(sync, "CLIENT", (sys.executable, str(tmp_path / "fake.py")))
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "calls"))
    log = tmp_path / "calls"
    return lambda: log.read_text().split() if log.is_file() else []


def a_run(root, name, *days, done=True):
    """A run with one finished folder of the client for each of `days`, in no order on disk."""
    folder = root / "runs" / name
    entries = {}
    for step, day in enumerate(sorted(days)):
        entry = {"step": step, "evals": ["e"] if done else None}
        entries[f"offline-run-202611{day:02d}_000000-{name}"] = entry
    for entry in reversed(entries):
        place = folder / "wandb" / entry
        place.mkdir(parents=True)
        (place / f"run-{name}.wandb").touch()
    (folder / "wandb" / "sealed.json").write_text(json.dumps(entries))
    (folder / "config.yaml").write_text(yaml.safe_dump({"runtime": {}}))
    (folder / "metrics.jsonl").write_text("".join(f'{{"step": {i}}}\n' for i in range(len(days))))
    if done:
        entry = {"eval_id": "0", "protocol": "vocl", "num_videos": 1, "metrics": {}, "rows": "x"}
        result = {"run_id": name, "metrics": {}, "evals": {"e": entry}}
        (folder / "result.json").write_text(json.dumps(result))
    return folder


def test_oldest_first_and_once(tmp_path, client, capsys):
    a_run(tmp_path, "aaaa", 9, 2, 30)
    a_run(tmp_path, "bbbb", 1)
    assert cli.main(["sync", "--all", f"runtime.root={tmp_path}"]) == 0
    assert [name[12:] for name in client()] == [
        *[f"202611{day:02d}_000000-aaaa" for day in (2, 9, 30)],
        "20261101_000000-bbbb",
    ]
    assert "aaaa: 3 uploaded" in capsys.readouterr().out
    assert cli.main(["sync", "aa", f"runtime.root={tmp_path}"]) == 0
    assert len(client()) == 4 and "nothing new" in capsys.readouterr().out


def test_after_a_failure_the_later_ones_wait(tmp_path, client, capsys, monkeypatch):
    folder = a_run(tmp_path, "aaaa", 1, 2)
    a_run(tmp_path, "bbbb", 3)
    monkeypatch.setenv("FAKE_FAILS", "offline-run-20261101_000000-aaaa")
    assert cli.main(["sync", "aaaa", "bbbb", f"runtime.root={tmp_path}"]) == 1
    said = capsys.readouterr()
    assert len(said.err.splitlines()) == 1 and "ERROR no such project" in said.err
    assert "bbbb: 1 uploaded" in said.out and len(client()) == 2
    monkeypatch.delenv("FAKE_FAILS")
    assert cli.main(["sync", str(folder)]) == 0
    assert client()[2:] == [f"offline-run-2026110{day}_000000-aaaa" for day in (1, 2)]


def test_a_running_one_keeps_what_it_still_writes(tmp_path, client, capsys):
    folder = a_run(tmp_path, "aaaa", 1, done=False)
    (folder / "wandb" / "offline-run-20261102_000000-aaaa").mkdir()
    beat = {"attempt": 2, "step": 1, "steps": 9, "pid": 1, "host": "x"}
    (folder / "heartbeat.json").write_text(json.dumps(beat | {"time": time.time()}))
    assert cli.main(["sync", "aaaa", f"runtime.root={tmp_path}"]) == 0
    assert client() == ["offline-run-20261101_000000-aaaa"]
    assert "it is running" in capsys.readouterr().out


def test_scores_that_were_computed_again_are_written_anew(tmp_path, client, monkeypatch):
    folder = a_run(tmp_path, "aaaa", 1)
    written = tmp_path / "written"
    script = f"import pathlib; pathlib.Path({str(written)!r}).touch()"
    monkeypatch.setattr(sync.mirror, "command", lambda *_: [sys.executable, "-S", "-c", script])
    path = folder / "wandb" / "sealed.json"
    (entry,) = json.loads(path.read_text()).items()
    result = json.loads((folder / "result.json").read_text())
    for scores, anew in ((digest(given(Result.of_json(result))), False), ("of before", True)):
        path.write_text(json.dumps({entry[0]: entry[1] | {"scores": scores}}))
        assert cli.main(["sync", "aaaa", f"runtime.root={tmp_path}"]) == 0
        assert written.is_file() == anew


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["cccc"], "neither"),
        (["a"], "several"),
        ([], "--all"),
        (["--now"], "--now"),
        (["aaaa", "runtime.tracking=foo"], "runtime.tracking"),
        (["aaaa", "runtime.tracking_checkpoints=maybe"], "runtime.tracking_checkpoints"),
        (["aaaa", "runtime.tracking=trackio", "runtime.wandb_project='a b'"], "trackio takes letters"),
        (["--table", "demo", "runtime.tracking=foo"], "runtime.tracking"),
    ],
)
def test_mistakes(tmp_path, client, capsys, arguments, word):
    a_run(tmp_path, "aaaa", 1)
    a_run(tmp_path, "abbb", 1)
    assert cli.main(["sync", *arguments, f"runtime.root={tmp_path}"]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and word in said and client() == []


def test_it_loads_neither_torch_nor_wandb(tmp_path):
    code = (
        "import sys\nfrom launch import cli\n"
        f"assert cli.main(['sync', '--all', 'runtime.root={tmp_path}']) == 0\n"
        "assert not {'torch', 'wandb'} & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


def test_a_colleagues_settings_of_the_client_are_not_believed(tmp_path, monkeypatch):
    """Those in the folder wandb/ of a run that somebody stands in could have the key sent elsewhere."""
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "settings").write_text("[default]\nbase_url = http://127.0.0.1:9\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_CONFIG_DIR", "mine")
    monkeypatch.setenv("PYTHONPATH", "code")
    code = (
        "import os; from wandb.sdk import wandb_setup; print(wandb_setup.singleton().settings.base_url, "
        "os.environ['WANDB_CONFIG_DIR'], os.environ['PYTHONPATH'])"
    )
    said = sync._run([sys.executable, "-c", code], 100).stdout.decode()
    assert said.startswith("https://") and "127.0.0.1" not in said
    assert f"{tmp_path}/mine" in said and f":{tmp_path}/code" in said


def test_a_folder_is_uploaded_whatever_the_working_folder_is(tmp_path, client, monkeypatch):
    monkeypatch.chdir(tmp_path)
    a_run(tmp_path / "results", "aaaa", 1)
    assert cli.main(["sync", "--all"]) == 0
    assert len(client()) == 1


def test_the_mirror_does_not_work_in_the_folder_of_its_caller(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one = mirror.Mirror(RunDir(tmp_path), "offline", "vocl", None)
    one.command = [sys.executable, "-c", "import os; print(os.getcwd())"]
    one.start()
    assert one.process is not None and one.process.stdout is not None
    one.process.wait(60)
    assert one.process.stdout.read().decode().strip() == str(mirror.REPOSITORY)
    one.close()


def test_a_failed_upload_elsewhere_leaves_it_uploaded_where_it_was(tmp_path, client, monkeypatch):
    a_run(tmp_path, "aaaa", 1)
    asked = ["sync", "aaaa", f"runtime.root={tmp_path}"]
    assert cli.main(asked) == 0
    monkeypatch.setenv("FAKE_FAILS", "offline-run-20261101_000000-aaaa")
    assert cli.main([*asked, "runtime.wandb_project=other"]) == 1
    assert cli.main(asked) == 0 and len(client()) == 2
    monkeypatch.delenv("FAKE_FAILS")
    for _ in range(2):
        assert cli.main([*asked, "runtime.wandb_project=other"]) == 0
    assert len(client()) == 3
