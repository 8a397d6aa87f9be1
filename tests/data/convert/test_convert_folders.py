"""Plain folders on their way into a store: bytes as they were, and every fault in its place."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from alarm import ends_soon
from PIL import Image

from vocl.commands import data
from vocl.data.convert.converter import LeftOut
from vocl.data.convert.folders import Folders
from vocl.errors import UserError

SIZE = (12, 16)
LENGTH = 3


def frame(number: int) -> Image.Image:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return Image.fromarray(np.stack([rows * 9, columns * 7, rows * 0 + 40 * number], -1).astype(np.uint8))


def mask(number: int) -> np.ndarray:
    out = np.zeros(SIZE, np.uint8)
    out[2:5, number : number + 4] = 2
    out[0, 0] = 255
    return out


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for split, video in (("train", "a"), ("train", "b"), ("validation", "c")):
        folder = tmp_path / split / video
        (folder / "frames").mkdir(parents=True)
        (folder / "masks").mkdir()
        for number in range(LENGTH):
            frame(number).save(folder / "frames" / f"{number}.jpg")
            Image.fromarray(mask(number)).save(folder / "masks" / f"{number}.png")
    return tmp_path


def convert(source: Path, **settings: object) -> dict[str, object]:
    given = {"binary": False, "unmatched": "refuse", "min_frames": None, "partial": False} | settings
    converter = Folders(source, **given)  # type: ignore[arg-type]
    return {unit.name: found for unit in converter.units() for found in converter.records(unit)}


def test_frames_stay_byte_for_byte_and_masks_value_for_value(source):
    found = convert(source)
    assert [(name, record.split) for name, record in found.items()] == [
        ("a", "train"),
        ("b", "train"),
        ("c", "validation"),
    ]
    record = found["a"]
    files = [source / "train/a/frames" / f"{number}.jpg" for number in range(LENGTH)]
    assert list(record.frames) == [path.read_bytes() for path in files]
    assert [m.tolist() for m in record.masks] == [mask(number).tolist() for number in range(LENGTH)]


def test_binary_masks_are_one_object_and_a_video_without_masks_has_no_truth(source):
    for path in (source / "train/b/masks").iterdir():
        path.unlink()
    (source / "train/b/masks").rmdir()
    found = convert(source, binary=True)
    assert found["b"].masks is None
    assert {int(v) for m in found["a"].masks for v in np.unique(m)} == {0, 1}


def test_a_name_of_two_splits_gets_the_split_before_it(source):
    (source / "validation/c").rename(source / "validation/a")
    assert list(convert(source)) == ["train-a", "b", "validation-a"]


def test_partly_annotated_videos_are_refused_or_left_out_when_asked(source):
    (source / "train/a/masks/1.png").unlink()
    error = convert(source)["a"]
    assert isinstance(error, UserError) and not isinstance(error, LeftOut)
    assert "2 masks (*.png) for 3 frames" in str(error) and "convert.unmatched=skip" in str(error)
    assert isinstance(convert(source, unmatched="skip")["a"], LeftOut)


def test_short_videos_are_left_out_when_asked(source):
    for kind in ("frames/2.jpg", "masks/2.png"):
        (source / "train/a" / kind).unlink()
    found = convert(source, min_frames=3)
    assert isinstance(found["a"], LeftOut) and "2 frames" in str(found["a"])
    assert not isinstance(found["b"], UserError)


def _cut(folder: Path) -> None:
    data = (folder / "frames/1.jpg").read_bytes()
    (folder / "frames/1.jpg").write_bytes(data[: len(data) // 2])


def _pipe(folder: Path) -> None:
    (folder / "frames/1.jpg").unlink()
    os.mkfifo(folder / "frames/1.jpg")


def _mask_pipe(folder: Path) -> None:
    (folder / "masks/1.png").unlink()
    os.mkfifo(folder / "masks/1.png")


def _dangling(folder: Path) -> None:
    (folder / "frames/1.jpg").unlink()
    (folder / "frames/1.jpg").symlink_to("nowhere")


def _other_size(folder: Path) -> None:
    frame(1).resize((8, 8)).save(folder / "frames/1.jpg")


def _twins(folder: Path) -> None:
    frame(1).save(folder / "frames/1.png")


def _no_frames(folder: Path) -> None:
    for path in (folder / "frames").iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (_cut, "frames/1.jpg"),
        (_pipe, "1.jpg: not a regular file"),
        (_mask_pipe, "1.png: not a regular file"),
        (_dangling, "1.jpg: no such file"),
        (_other_size, "8x8 pixels"),
        (_no_frames, "no frames"),
        (_twins, "holds both 1.jpg and 1.png"),
    ],
)
def test_every_fault_stands_in_its_place(source, damage, told):
    damage(source / "train/a")
    with ends_soon("converting", 30):
        found = convert(source)
    assert isinstance(found["a"], UserError) and told in str(found["a"])
    assert not isinstance(found["b"], UserError) and not isinstance(found["c"], UserError)


def test_what_is_missing_is_told_at_construction(tmp_path):
    with pytest.raises(UserError, match="no such folder; it must hold <split>/<video>/frames"):
        convert(tmp_path / "nowhere")
    with pytest.raises(UserError, match="holds no video"):
        convert(tmp_path)


def test_a_store_counts_what_it_was_asked_to_leave_out(source, tmp_path_factory, capsys):
    (source / "train/a/masks/1.png").unlink()
    out = tmp_path_factory.mktemp("stores")
    command = ["prepare", "folders", str(source)]
    assert data.main([*command, str(out / "refused"), "workers=1"]) == 2
    assert "leave such videos out with convert.unmatched=skip" in capsys.readouterr().err
    assert data.main([*command, str(out / "taken"), "workers=1", "convert.unmatched=skip"]) == 0
    said = capsys.readouterr()
    assert "left out: " in said.err and "left out by convert.unmatched=skip" in said.err
    assert "2 videos, 6 frames" in said.out
