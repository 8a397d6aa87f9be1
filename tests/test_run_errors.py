"""What the outside world does to a run: full disks, unwritable folders, a second process, edited files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import pytest
import yaml
from running import TINY, at_step, child, final, run_folder, same, send, tiny, told, wait

from vocl import run, train
from vocl.data.feed import Feed
from vocl.errors import UserError
from vocl.loading import load
from vocl.rundir.checkpoint import Checkpoints
from vocl.tracking.log import STAMP


@pytest.fixture
def mounted(tmp_path):
    """Mounts at tmp_path/small; skips where that is refused."""
    place = tmp_path / "small"
    place.mkdir()

    def mount(*options):
        done = subprocess.run(["mount", *options, str(place)], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"mount is refused here: {done.stderr.strip()}")
        return place

    yield mount
    while subprocess.run(["umount", str(place)], capture_output=True).returncode == 0:
        pass


def arguments(root, *more):
    return [*TINY, f"runtime.root={root}", *more]


def refused(capfd, given, *words):
    """The command must say one line on stderr beside what the run is, nothing on stdout, and leave with 2."""
    capfd.readouterr()
    assert train.main(given) == 2
    out, err = capfd.readouterr()
    assert out == "" and len(told(err)) == 1, err
    assert not STAMP.match(err.splitlines()[-1])
    for word in words:
        assert word in err
    return err.splitlines(keepends=True)[-1]


def test_a_full_disk_leaves_a_record_and_the_last_checkpoint(mounted, capfd):
    root = mounted("-t", "tmpfs", "-o", "size=1m", "none")
    given = arguments(root, "runtime.checkpoint_every=2")
    config = tiny(root, "runtime.checkpoint_every=2")
    folder = run_folder(config)
    folder.mkdir(parents=True)
    (folder / "ballast").write_bytes(bytes(700 * 1024))
    size = 100 * 1024  # of a checkpoint; the run may write about two before the disk is full
    saved = []
    save = Checkpoints.save

    def larger(self, step, state):
        found = save(self, step, state | {"more": bytes(size)})
        saved.append(step)
        return found

    Checkpoints.save = larger
    try:
        assert train.main(given) == 1
        (said,) = told(capfd.readouterr().err)
        assert "No space left" in said and "0001-failed.json" in said
        record = json.loads((folder / "events" / "0001-failed.json").read_text())
        assert record["kind"] == "OSError" and record["outcome"] == "failed"
        assert saved and Checkpoints(folder / "checkpoints").newest()[0].step == saved[-1]
        assert not list(folder.rglob(".tmp-*"))
        before = final(config)
        again = train.main(given)  # still full
        assert again == 1 and len(told(capfd.readouterr().err)) == 1
        assert final(config)["step"] >= before["step"]
    finally:
        Checkpoints.save = save
    (folder / "ballast").unlink()
    assert train.main(given) == 0
    whole = tiny(root.parent / "whole", "runtime.checkpoint_every=2")
    assert run.run(whole) == 0
    same(final(config)["model"], final(whole)["model"])


def test_a_disk_without_room_for_the_record_is_said_in_one_line(tmp_path, monkeypatch, capfd):
    config = tiny(tmp_path)

    def full():
        monkeypatch.setattr(
            "vocl.rundir.attempts.write_json", lambda *_: (_ for _ in ()).throw(OSError(28, "No space"))
        )
        raise OSError(28, "No space left on device")

    at_step(monkeypatch, 7, full)
    assert run.run(config) == 1
    (said,) = told(capfd.readouterr().err)
    assert "could not be written" in said
    assert final(config)["step"] == 5


@pytest.mark.parametrize("kind", ["below a file", "read-only"])
def test_an_unwritable_results_folder_is_one_line(tmp_path, mounted, capfd, kind):
    if kind == "read-only":
        root = mounted("-t", "tmpfs", "-o", "ro", "none")
    else:
        root = tmp_path / "file" / "below"
        root.parent.write_text("")
    refused(capfd, arguments(root), str(root), "runtime.root")


def test_a_second_process_is_told_which_one_has_the_run(tmp_path, monkeypatch, capfd):
    config = tiny(tmp_path)
    held = tmp_path / "held"

    def first():
        at_step(monkeypatch, 6, lambda: (held.write_text(""), time.sleep(30)))
        return run.run(config)

    pid = child(first, log=tmp_path / "log")
    while not held.exists():
        time.sleep(0.01)
    before = {p: p.stat().st_mtime_ns for p in run_folder(config).rglob("*")}
    refused(capfd, arguments(tmp_path), "being worked on already", f"process {pid} ")
    assert before == {p: p.stat().st_mtime_ns for p in run_folder(config).rglob("*")}
    os.kill(pid, signal.SIGKILL)
    wait(pid)
    assert run.run(config) == 0  # the claim died with its holder


def test_a_crash_leaves_a_record_and_can_be_resumed(tmp_path, monkeypatch, capfd):
    whole, config = tiny(tmp_path / "whole"), tiny(tmp_path / "torn")
    assert run.run(whole) == 0

    def crash():
        raise RuntimeError("two\nlines")

    capfd.readouterr()
    with monkeypatch.context() as patch:
        at_step(patch, 7, crash)
        assert run.run(config) == 1
    (said,) = told(capfd.readouterr().err)
    assert "RuntimeError: two lines" in said
    record = json.loads((run_folder(config) / "events" / "0001-failed.json").read_text())
    assert "in crash" in record["traceback"]
    assert run.run(config) == 0
    same(final(config), final(whole))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_input_that_turns_out_bad_is_the_users_mistake(tmp_path, monkeypatch, capfd, workers):
    given = arguments(tmp_path, f"runtime.workers={workers}")
    batch = Feed.batch

    def bad(self, step):
        if step == 7:
            raise UserError("data/x/0001.jpg: does not decode")
        return batch(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(Feed, "batch", bad)
        assert refused(capfd, given) == "data/x/0001.jpg: does not decode\n"
    record = run_folder(tiny(tmp_path)) / "events" / "0001-failed.json"
    assert json.loads(record.read_text())["kind"] == "UserError"
    assert train.main(given) == 0  # mended, it goes on


def test_a_config_that_does_not_fit_its_checkpoint(tmp_path, monkeypatch, capfd):
    config = tiny(tmp_path)
    with monkeypatch.context() as patch:
        at_step(patch, 6, send(signal.SIGTERM))
        assert run.run(config) == 75
    path = run_folder(config) / "config.yaml"
    other = tiny(tmp_path, "model.slot_dim=16")
    path.write_text(yaml.safe_dump(other.content))
    with pytest.raises(UserError, match=r"another model.*weights differ"):
        load(str(path.parent))
    refused(capfd, arguments(tmp_path), "config.yaml: was changed")
    path.write_text("a: [")
    refused(capfd, arguments(tmp_path), "not valid YAML")
    path.write_text(yaml.safe_dump(config.content))
    assert train.main(arguments(tmp_path)) == 0


def test_a_checkpoint_under_another_models_id(tmp_path, monkeypatch, capfd):
    """A checkpoint copied into the folder of another run."""
    a, b = tiny(tmp_path), tiny(tmp_path, "model.num_slots=3")
    assert run.run(a) == 0
    with monkeypatch.context() as patch:
        at_step(patch, 1, send(signal.SIGTERM))
        assert run.run(b) == 75
    for found in Checkpoints(run_folder(b) / "checkpoints").list():
        found.path.unlink()
    source = Checkpoints(run_folder(a) / "checkpoints").list()[0].path
    (run_folder(b) / "checkpoints" / source.name).write_bytes(source.read_bytes())
    refused(capfd, arguments(tmp_path, "model.num_slots=3"), "another model")


def test_a_missing_data_folder_writes_nothing(tmp_path, capfd):
    root = tmp_path / "results"
    refused(capfd, [f"runtime.root={root}", "dataset=movi_c", f"runtime.data_root={tmp_path}"], "movi_c")
    assert not root.exists()


def test_a_clip_longer_than_the_videos_writes_nothing(tmp_path, capfd):
    root = tmp_path / "results"
    refused(capfd, arguments(root, "dataset.clip_frames=5"), "dataset.clip_frames=5", "shorter")
    assert not root.exists()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"evals": 3}', '{"evals": {}}'])
def test_a_damaged_result_is_set_aside_and_the_run_evaluated_again(tmp_path, capfd, content):
    given, folder = arguments(tmp_path), run_folder(tiny(tmp_path))
    assert train.main(given) == 0
    before = json.loads((folder / "result.json").read_text())
    weights = sorted(path.name for path in (folder / "checkpoints").iterdir())
    (folder / "result.json").write_text(content)
    capfd.readouterr()
    assert train.main(given) == 0
    assert "result.json: damaged, the run is evaluated again" in capfd.readouterr().err
    after = json.loads((folder / "result.json").read_text())
    assert (after["metrics"], after["attempts"]) == (before["metrics"], 2)
    assert (folder / "result.json.damaged").read_text() == content
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == weights


@pytest.mark.parametrize("content", ["", "{}", "[]"])
@pytest.mark.parametrize("name", ["events/0001-start.json", "events/0001-stopped.json", "heartbeat.json"])
def test_a_run_goes_on_beside_a_damaged_record(tmp_path, monkeypatch, name, content):
    config = tiny(tmp_path)
    folder = run_folder(config)
    with monkeypatch.context() as patch:
        at_step(patch, 7, send(signal.SIGTERM))
        assert run.run(config) == 75
    (folder / name).write_text(content)
    assert run.run(config) == 0
    assert json.loads((folder / "result.json").read_text())["attempts"] == 2


def test_code_that_leaves_the_process_is_a_crash_with_a_record(tmp_path, monkeypatch) -> None:
    def leave() -> None:
        raise SystemExit(3)

    at_step(monkeypatch, 2, leave)
    config = tiny(tmp_path)
    assert run.run(config) == 1
    record = json.loads((run_folder(config) / "events" / "0001-failed.json").read_text())
    assert record["kind"] == "SystemExit" and record["where"].startswith("vocl/trainer.py:")
