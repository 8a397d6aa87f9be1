"""SegTrack-v2 and FBMS-59: one object or several, frames without a mask, colours that mean regions."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco
from small_sets import SIZE, box, picture, save_frames

from vocl.data.convert.motion import Fbms, SegTrack
from vocl.data.store.record import Record
from vocl.errors import UserError

ONE, TWO = box(2, 3, 12, 14), box(8, 9, 20, 30)


def convert(converter: Any) -> dict[str, Record | UserError]:
    return {unit.name: found for unit in converter.units() for found in converter.records(unit)}


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


@pytest.fixture
def segtrack(tmp_path: Path) -> Path:
    """frog: one object, PNG; drift: two objects that overlap, BMP, masks in colour, named otherwise."""
    save_frames(tmp_path / "JPEGImages/frog", range(3), "{:05d}.png")
    save_frames(tmp_path / "JPEGImages/drift", range(3), "drift_{:02d}.bmp")
    for t in range(3):
        save(tmp_path / f"GroundTruth/frog/{t:05d}.png", ONE * 255)
        save(tmp_path / f"GroundTruth/drift/1/{t + 1}.bmp", np.repeat((ONE * 250)[..., None], 3, -1))
        save(tmp_path / f"GroundTruth/drift/2/{t + 1}.bmp", TWO * 255 if t else TWO * 0)
    return tmp_path


def test_segtrack_merges_objects_or_keeps_them(segtrack):
    def read(objects: str) -> dict[str, Any]:
        return convert(SegTrack(segtrack, objects=objects, published={"test": 2}, partial=False))

    merged, separate = read("merged"), read("separate")
    assert [np.array_equal(mask, ONE) for mask in merged["frog"].masks] == [True] * 3
    assert [np.array_equal(mask, ONE | TWO) for mask in merged["drift"].masks] == [False, True, True]
    assert separate["frog"].objects is None and merged["frog"].split == "test"
    first, second = separate["drift"].objects.objects
    assert second[0] is None and np.array_equal(coco.decode(second[1]), TWO)
    assert np.array_equal(coco.decode(first[2]), ONE)


def test_frames_that_no_store_has_become_png_with_the_same_pixels(segtrack):
    record = convert(SegTrack(segtrack, objects="merged", published=None, partial=False))["drift"]
    kept = Image.open(io.BytesIO(record.frames[1]))
    assert kept.format == "PNG" and np.array_equal(np.asarray(kept), np.asarray(picture(1)))


def test_faults_of_segtrack_are_told(segtrack):
    (segtrack / "GroundTruth/frog/00001.png").unlink()
    save(segtrack / "GroundTruth/drift/2/3.bmp", np.zeros((8, 8)))
    found = convert(SegTrack(segtrack, objects="merged", published=None, partial=False))
    assert "GroundTruth/frog: 2 masks for 3 frames" in str(found["frog"])
    assert "3.bmp: 8x8 pixels; its frame has 36x24" in str(found["drift"])
    with pytest.raises(UserError, match="test: 2 videos, published are 14"):
        SegTrack(segtrack, objects="merged", published={"test": 14}, partial=False)
    with pytest.raises(UserError, match="no such folder; download SegTrack-v2 from https"):
        SegTrack(segtrack / "JPEGImages", objects="merged", published=None, partial=True)


DEF = """Ground truth definition file; do not change!

Total number of regions:
3

Scale of region 0:
16777215

Scale of region 1:
255

Scale of region 2:
65280

Confusion penality matrix
0 1 1
1 0 1
1 1 0

Total number of frames in this shot:
5

Total number of labeled frames for this shot:
2

Frame number:
0
File name:
cats01_0001_gt.ppm
Input file name:
cats01_0001.ppm

Frame number:
4
File name:
cats01_0005_gt.ppm
Input file name:
cats01_0005.ppm
"""


def coloured() -> np.ndarray:
    """Background white, region 1 blue, region 2 green, and a colour that no region has."""
    out = np.full((*SIZE, 3), 255)
    out[ONE], out[box(14, 20, 20, 30)], out[0, 0] = (0, 0, 255), (0, 255, 0), (9, 9, 9)
    return out


@pytest.fixture
def fbms(tmp_path: Path) -> Path:
    cats = tmp_path / "Trainingset/cats01"
    save_frames(cats, range(1, 6), "cats01_{:04d}.jpg")
    for number in (1, 5):
        save(cats / f"GroundTruth/cats01_{number:04d}_gt.ppm", coloured())
    save(cats / "GroundTruth/cats01_0001_PROB_gt.pgm", np.zeros(SIZE))
    (cats / "GroundTruth/cats01Def.dat").write_text(DEF)
    cars = tmp_path / "Testset/cars1"
    save_frames(cars, range(1, 4), "cars1_{:02d}.ppm")
    save(cars / "GroundTruth/cars1_01_gt.pgm", ONE * 80 + box(14, 20, 20, 30) * 160)
    return tmp_path


def read_fbms(source: Path, objects: str = "separate", **more: Any) -> dict[str, Any]:
    return convert(Fbms(source, **({"objects": objects, "published": None, "partial": False} | more)))


def test_a_definition_says_what_colours_and_frames_mean(fbms):
    record = read_fbms(fbms)["cats01"]
    expected = ONE.astype(np.uint8)
    expected[box(14, 20, 20, 30)] = 2
    masks = list(record.masks)
    assert [mask is None for mask in masks] == [False, True, True, True, False]
    assert np.array_equal(masks[0], expected) and record.more == {"annotated": [0, 4]}
    assert np.array_equal(list(read_fbms(fbms, "merged")["cats01"].masks)[4], expected > 0)
    assert record.split == "train" and len(record.frames) == 5


def test_without_a_definition_colours_count_upwards_and_numbers_name_frames(fbms):
    record = read_fbms(fbms)["cars1"]
    masks = list(record.masks)
    assert [mask is None for mask in masks] == [False, True, True]
    assert np.array_equal(masks[0], ONE * 1 + box(14, 20, 20, 30) * 2)
    assert Image.open(io.BytesIO(record.frames[0])).format == "PNG"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is no definition"),
        (DEF.replace("shot:\n5", "shot:\n6"), "is of 6 frames, there are 5"),
        (DEF[: DEF.index("Frame number:")], "no mask of any of 5 frames"),
        (DEF.replace("\n3\n", "\n4\n", 1), "is no definition"),
        (DEF.replace("\n4\nFile", "\n5\nFile"), "names frame 5 of 5"),
        (DEF.replace("_0005_gt", "_0099_gt"), "cats01_0099_gt.ppm: no such file"),
        (DEF.replace("cats01_0005_gt.ppm", "../../../../etc/passwd"), "passwd: no such file"),
        (DEF.replace("16777215", "white"), "is no definition"),
    ],
)
def test_a_wrong_definition_is_told(fbms, text, told):
    (fbms / "Trainingset/cats01/GroundTruth/cats01Def.dat").write_text(text)
    found = read_fbms(fbms)["cats01"]
    assert isinstance(found, UserError) and told in str(found)


def test_faults_of_fbms_are_told(fbms):
    save(fbms / "Testset/cars1/GroundTruth/cars1_09_gt.pgm", ONE)
    assert "there is no frame of that number" in str(read_fbms(fbms)["cars1"])
    (fbms / "Testset/cars1/GroundTruth/cars1_09_gt.pgm").unlink()
    path = fbms / "Testset/cars1/GroundTruth/cars1_01_gt.pgm"
    path.write_bytes(path.read_bytes()[:-99])
    assert "cars1_01_gt.pgm: does not decode" in str(read_fbms(fbms)["cars1"])
    (fbms / "Testset/cars1/cars1_02.ppm").unlink()
    assert "cars1: a frame is missing; 2 are numbered from 1" in str(read_fbms(fbms)["cars1"])
    with pytest.raises(UserError, match="train: 1 videos, published are 29"):
        read_fbms(fbms, published={"train": 29, "test": 30})
    with pytest.raises(UserError, match="no such folder; download FBMS-59 from https"):
        read_fbms(fbms / "Testset")
