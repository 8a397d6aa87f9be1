"""`vocl data` as a user calls it: folders in, a store out; mistakes in one line; killed and gone on with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from launch import cli
from vocl.commands.data import main
from vocl.data.sources.files import FrameFolders
from vocl.data.store.reading import Store

SIZE, LENGTH = (96, 128), 6


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """30 videos for training and 2 held out, all with masks."""
    rng = np.random.default_rng(0)
    for number in range(32):
        video = tmp_path / "source" / ("validation" if number > 29 else "train") / f"v{number:02d}"
        for kind in ("frames", "masks"):
            (video / kind).mkdir(parents=True)
        for t in range(LENGTH):
            pixels = rng.integers(0, 255, (*SIZE, 3), np.uint8)
            Image.fromarray(pixels).save(video / "frames" / f"{t}.jpg", quality=95)
            labels = np.zeros(SIZE, np.uint8)
            labels[10:40, 8 * t : 8 * t + 30] = 1
            Image.fromarray(labels).save(video / "masks" / f"{t}.png")
    return tmp_path / "source"


def run(*words: object) -> int:
    return main([str(word) for word in words])


def test_folders_become_a_store_that_is_the_same_dataset(folders: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "data" / "mine"
    assert run("prepare", "folders", folders, out, "shard_mb=1", "workers=2") == 0
    told = capsys.readouterr().out
    assert "32 videos, 192 frames" in told and "train_minus_dev" in told
    assert run("info", out) == 0 and capsys.readouterr().out == told
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "mine").symlink_to(folders)
    for split in ("train", "validation"):
        stored, plain = (FrameFolders(split, tmp_path / root, name="mine") for root in ("data", "plain"))
        stored.check()
        assert [stored[i].name for i in range(len(stored))] == [plain[i].name for i in range(len(plain))]
        for one, other in ((stored[i], plain[i]) for i in range(0, len(stored), 7)):
            assert (one.length, one.size) == (other.length, other.size)
            np.testing.assert_array_equal(one.frames([5, 0]), other.frames([5, 0]))
            assert stored.truth(one.name) == plain.truth(one.name)
            for name in ("masks", "boxes"):
                ours, theirs = (video.annotations([name], [1, 4])[name] for video in (one, other))
                np.testing.assert_array_equal(ours, theirs)


def test_the_preview_shows_frames_and_masks(folders: Path, tmp_path: Path) -> None:
    out, picture = tmp_path / "mine", tmp_path / "look.png"
    assert run("prepare", "folders", folders, out) == 0
    assert run("preview", out, "videos=2", f"out={picture}") == 0
    with Image.open(picture) as image:
        tall, wide = image.height, image.width
    assert run("preview", out, "videos=v30", f"out={picture}") == 0
    with Image.open(picture) as image:
        assert image.width == wide and image.height * 2 == tall


def test_a_refusal_does_not_stand_in_the_way_of_what_it_proposes(
    folders: Path, tmp_path: Path, capsys
) -> None:
    (folders / "train" / "v03" / "masks" / "0.png").unlink()
    out = tmp_path / "out"
    assert "convert.unmatched=skip" in _told(capsys, "prepare", "folders", folders, out)
    assert not out.exists()
    assert run("prepare", "folders", folders, out, "convert.unmatched=skip") == 0
    assert "videos left out: 1" in capsys.readouterr().out


def test_masks_without_any_object_are_told(folders: Path, tmp_path: Path, capsys) -> None:
    for path in folders.rglob("masks/*.png"):
        Image.fromarray(np.where(np.asarray(Image.open(path)) > 0, 255, 0).astype(np.uint8)).save(path)
    assert run("prepare", "folders", folders, tmp_path / "out") == 0
    assert "convert.binary=true" in capsys.readouterr().err
    assert run("prepare", "folders", folders, tmp_path / "binary", "convert.binary=true") == 0
    assert capsys.readouterr().err == ""


def test_a_store_that_lacks_a_shard_is_told_once_by_info_and_verify(
    folders: Path, tmp_path: Path, capsys
) -> None:
    out = tmp_path / "out"
    assert run("prepare", "folders", folders, out, "shard_mb=1") == 0
    (out / "00000.tar").unlink()
    assert "00000.tar" in _told(capsys, "info", out)
    capsys.readouterr()
    assert run("verify", out) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    (out / "00001.parquet").write_bytes(b"PAR1")
    assert run("verify", out) == 1


def _told(capsys, *words: object) -> str:
    """The one line of a mistake."""
    capsys.readouterr()
    assert run(*words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


MISTAKES = {
    "out in source": (["prepare", "folders", "{source}", "{source}/out"], "OUT lies in SOURCE"),
    "no verb": (["prepre", "folders", "{source}", "{out}"], "did you mean prepare?"),
    "no dataset": (["prepare", "folder", "{source}", "{out}"], "did you mean folders?"),
    "no words": (["prepare"], "NAME SOURCE OUT"),
    "no source": (["prepare", "folders", "{source}/none", "{out}"], "no such folder"),
    "unknown key": (["prepare", "folders", "{source}", "{out}", "workrs=2"], "did you mean workers?"),
    "unknown deeper key": (
        ["prepare", "folders", "{source}", "{out}", "convert.binry=true"],
        "convert.binry",
    ),
    "bad value": (["prepare", "folders", "{source}", "{out}", "workers=0"], "workers=0"),
    "other class": (["prepare", "folders", "{source}", "{out}", "convert._target_=os.system"], "os.system"),
    "full folder": (["prepare", "folders", "{source}", "{store}"], "is a whole store already"),
    "no store": (["verify", "{source}"], "manifest.json"),
    "no such video": (["preview", "{store}", "videos=nobody"], "videos=nobody"),
    "no such split": (["preview", "{store}", "split=tset"], "choose from"),
    "no picture": (["preview", "{store}", "out=a.txt"], "out=a.txt"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line(folders: Path, tmp_path: Path, name: str, capsys) -> None:
    words, said = MISTAKES[name]
    store = tmp_path / "store"
    if "{store}" in words:
        assert run("prepare", "folders", folders, store) == 0
    places = {"source": folders, "out": tmp_path / "out", "store": store}
    capsys.readouterr()
    assert cli.main(["data", *(word.format(**places) for word in words)]) == 2
    told = capsys.readouterr()
    assert told.out == "" and said in told.err and len(told.err.splitlines()) == 1, told.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGKILL, -9)])
def test_what_was_stopped_or_killed_goes_on(folders: Path, tmp_path: Path, number: int, code: int) -> None:
    out = tmp_path / "out"
    words = ["data", "prepare", "folders", str(folders), str(out), "shard_mb=1", "workers=2"]
    command = [sys.executable, "-m", "vocl.commands.launching", *words]
    process = subprocess.Popen(
        command, start_new_session=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )
    until = time.monotonic() + 60
    while not list(out.glob("0*.parquet")) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.002)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode in (code, 0)  # 0: it was faster
    _wait_for_group_to_end(process.pid)
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == (2 if process.returncode == 0 else 0), done.stderr
    assert len(Store(out).entries) == 32
    assert run("verify", out) == 0
    assert sorted(path.name for path in out.iterdir() if path.name.startswith(".")) == []


def _wait_for_group_to_end(group: int) -> None:
    """Its processes end with it: nothing may write there any more."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise AssertionError("processes outlive the command that started them")
