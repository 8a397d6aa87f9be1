"""JHMDB and VIP: joints to the pixel, parts by number, and every fault in its place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat
from small_sets import SIZE, box, save_frames, save_labels

from vocl.data.convert.parts import Jhmdb, Vip
from vocl.data.store.record import Record
from vocl.errors import UserError

LENGTH = 3


def convert(converter: Any) -> dict[str, Record | UserError]:
    return {unit.name: found for unit in converter.units() for found in converter.records(unit)}


def joints() -> np.ndarray:
    """2 15 t, counted from one; joint 0 lies on the first pixel, joint 1 outside of the picture."""
    out = np.random.default_rng(0).uniform(1, 20, (2, 15, LENGTH))
    out[:, 0], out[:, 1] = 1, np.array([[40], [3]])
    return out


@pytest.fixture
def jhmdb(tmp_path: Path) -> Path:
    (tmp_path / "splits").mkdir()
    for action, clips in (("brush_hair", ("a_1", "b_2")), ("catch", ("c_3",))):
        for clip in clips:
            save_frames(tmp_path / "Rename_Images" / action / clip, range(1, LENGTH + 1), "{:05d}.png")
            (tmp_path / "Rename_Images" / action / ".AppleDouble").mkdir(exist_ok=True)
            folder = tmp_path / "joint_positions" / action / clip
            folder.mkdir(parents=True)
            savemat(folder / "joint_positions.mat", {"pos_img": joints(), "scale": np.ones(LENGTH)})
        lines = [f"{clip}.avi {1 + number}" for number, clip in enumerate(clips)]
        (tmp_path / f"splits/{action}_test_split1.txt").write_text("\n".join(lines) + " \n")
    return tmp_path


def read_jhmdb(source: Path, **more: Any) -> dict[str, Any]:
    return convert(Jhmdb(source, **({"split": 1, "published": None, "partial": False} | more)))


def test_joints_count_from_the_centre_of_the_first_pixel(jhmdb):
    found = read_jhmdb(jhmdb, published={"train": 2, "test": 1})
    assert {name: record.split for name, record in found.items()} == {
        "a_1": "train",
        "b_2": "test",
        "c_3": "train",
    }
    points = found["a_1"].points
    assert points.shape == (LENGTH, 15, 3) and points.dtype == np.float32
    assert np.allclose(points[..., :2], joints().transpose(2, 1, 0) - 1)
    assert points[:, 0].tolist() == [[0, 0, 1]] * LENGTH
    assert points[:, 1].tolist() == [[39, 2, 0]] * LENGTH
    assert found["a_1"].more == {"action": "brush_hair"} and found["a_1"].masks is None


def test_faults_of_jhmdb_are_told(jhmdb):
    folder = jhmdb / "joint_positions/brush_hair"
    (folder / "a_1/joint_positions.mat").unlink()
    path = folder / "b_2/joint_positions.mat"
    savemat(path, {"pos_img": joints()[..., :2]})
    found = read_jhmdb(jhmdb)
    assert "a_1/joint_positions.mat: no such file" in str(found["a_1"])
    assert "pos_img is 2x15x2, not 2x15x3 pixels for 3 frames" in str(found["b_2"])
    for content in ({"other": 1.0}, {"pos_img": "text"}, {"pos_img": joints() * np.nan}):
        savemat(path, content)
        assert "pos_img" in str(read_jhmdb(jhmdb)["b_2"]) and isinstance(read_jhmdb(jhmdb)["b_2"], UserError)
    path.write_bytes(path.read_bytes()[:150])
    assert "is no MATLAB file, or a damaged one" in str(read_jhmdb(jhmdb)["b_2"])
    path.unlink()
    os.mkfifo(path)
    assert "not a regular file" in str(read_jhmdb(jhmdb)["b_2"])


def test_lists_of_jhmdb_decide(jhmdb):
    origin = jhmdb / "splits/brush_hair_test_split1.txt"
    origin.write_text("a_1.avi 1\nzz.avi 2\n")
    with pytest.raises(UserError, match=r"1 of 2 videos are not in .* such as zz"):
        read_jhmdb(jhmdb)
    assert list(read_jhmdb(jhmdb, partial=True)) == ["a_1", "c_3"]
    origin.write_text("a_1.avi 3\n")
    with pytest.raises(UserError, match=r"'a_1\.avi 3' is not <clip>\.avi and 1 or 2"):
        read_jhmdb(jhmdb)
    origin.unlink()
    with pytest.raises(UserError, match=r"brush_hair_test_split1\.txt: no such file; download JHMDB"):
        read_jhmdb(jhmdb)
    with pytest.raises(UserError, match="published are 660"):
        read_jhmdb(jhmdb, split=1, published={"train": 660}) if origin.write_text("a_1 1\nb_2 2\n") else None


@pytest.fixture
def vip(tmp_path: Path) -> Path:
    labels = np.zeros(SIZE, np.uint8)
    labels[box(2, 2, 6, 6)], labels[box(8, 8, 12, 20)], labels[0, 0] = 19, 3, 255
    for video in ("videos1", "videos2"):
        save_frames(tmp_path / "Images" / video, (1, 26, 51), "{:012d}.jpg")
        for number in (1, 51):
            save_labels(tmp_path / f"Annotations/Category_ids/{video}/{number:012d}.png", labels)
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/train_videos.txt").write_text("videos1\n")
    (tmp_path / "lists/val_videos.txt").write_text("videos2\n")
    return tmp_path


def read_vip(source: Path, **more: Any) -> dict[str, Any]:
    return convert(Vip(source, **({"published": {"val": 1}, "partial": False} | more)))


def test_parts_keep_their_numbers(vip):
    found = read_vip(vip)
    assert {name: record.split for name, record in found.items()} == {"videos1": "train", "videos2": "val"}
    masks = list(found["videos2"].masks)
    assert [mask is None for mask in masks] == [False, True, False]
    assert np.unique(masks[0]).tolist() == [0, 3, 19, 255]


def test_faults_of_vip_are_told(vip):
    folder = vip / "Annotations/Category_ids/videos1"
    save_labels(folder / f"{26:012d}.png", np.full(SIZE, 20))
    assert "000000000026.png: has a label above 19" in str(read_vip(vip)["videos1"])
    for path in folder.iterdir():
        path.unlink()
    assert "holds no mask of any frame" in str(read_vip(vip)["videos1"])
    (vip / "lists/train_videos.txt").unlink()
    with pytest.raises(UserError, match=r"train_videos\.txt: no such file; download VIP_Fine from https"):
        read_vip(vip)
    assert list(read_vip(vip, partial=True)) == ["videos2"]
    (vip / "lists/val_videos.txt").write_text("\n")
    with pytest.raises(UserError, match="holds no video of the lists"):
        read_vip(vip, partial=True)
    with pytest.raises(UserError, match="no such folder; download VIP_Fine"):
        read_vip(vip / "lists")
