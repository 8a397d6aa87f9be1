"""YouTube-VIS and its relatives: masks of every form, the splits of papers, and every fault in its place."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco
from small_sets import SIZE, box, code, picture, write_ytvis, ytvis

from vocl.data.convert.converter import LeftOut
from vocl.data.convert.ytvis import YouTubeVis, YouTubeVis2019, YouTubeVis2021
from vocl.data.store.record import Record
from vocl.errors import UserError

SHARED = Path(os.environ.get("VOCL_SHARED", Path(__file__).parents[3] / "../shared")) / "data"
PARTS = {
    "train": {"annotations": "train.json", "frames": "train/JPEGImages"},
    "valid": {"annotations": "valid.json", "frames": "valid/JPEGImages"},
}


def settings(**more: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"parts": PARTS, "download": "it from there", "fps": 6.0, "short_px": None}
    given |= {"resize": "bicubic", "quality": 95, "published": None, "partial": False}
    return given | more


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_ytvis(tmp_path, ytvis(2), "train.json", "train/JPEGImages")
    return tmp_path


def convert(source: Path, **more: Any) -> dict[str, Record | UserError]:
    converter = YouTubeVis(source, **settings(**more))
    return {unit.name: found for unit in converter.units() for found in converter.records(unit)}


def rewrite(source: Path, change: Any) -> None:
    content = json.loads((source / "train.json").read_text())
    change(content)
    (source / "train.json").write_text(json.dumps(content))


def masks_of(record: Record) -> list[list[Any]]:
    assert record.objects is not None
    return [
        [None if c is None else coco.decode(c).astype(bool) for c in codes]
        for codes in record.objects.objects
    ]


def test_overlapping_objects_come_back_exactly(source):
    found = convert(source)
    assert list(found) == ["v0000", "v0001"]
    record = found["v0001"]
    files = [source / "train/JPEGImages/v0001" / f"{5 * t:05d}.jpg" for t in range(3)]
    assert list(record.frames) == [path.read_bytes() for path in files]
    assert record.split == "train" and record.classes == ["fox", "boat"] and record.fps == 6.0
    one, two = masks_of(record)
    assert all(np.array_equal(mask, box(2, 3, 12, 14)) for mask in one)
    assert two[0] is None and all(np.array_equal(mask, box(8, 9, 20, 30)) for mask in two[1:])
    labels, contested = record.objects.labels("paint")
    assert contested == 2 * 4 * 5 and labels.shape == (3, *SIZE)


def test_crowds_are_left_out_and_polygons_are_filled(source):
    def change(content):
        content["annotations"][0]["iscrowd"] = 1
        content["annotations"][1]["segmentations"][1] = [[2, 2, 8, 2, 8, 8, 2, 8]]

    rewrite(source, change)
    record = convert(source)["v0000"]
    assert record.classes == ["boat"]
    mask = masks_of(record)[0][1]
    assert mask[4, 4] and not mask[15, 15]


def test_a_video_without_objects_has_an_empty_truth_and_a_file_without_any_has_none(source):
    rewrite(source, lambda content: content["annotations"].__delitem__(slice(0, 2)))
    record = convert(source)["v0000"]
    assert record.objects is not None and record.objects.objects == () and record.classes == []
    content = ytvis(1) | {"annotations": None}
    content["videos"][0] |= {"id": 99, "file_names": ["w/0.jpg", "w/1.jpg"]}
    write_ytvis(source, content, "valid.json", "valid/JPEGImages")
    found = convert(source)
    assert found["w"].split == "valid" and found["w"].objects is None and found["w"].classes is None


@pytest.mark.parametrize(("size", "to"), [((24, 36), (12, 18)), ((37, 24), (18, 12)), ((24, 24), (12, 12))])
def test_the_short_side_is_met_and_masks_are_of_the_nearest_pixel(tmp_path, size, to):
    write_ytvis(tmp_path, ytvis(1, size), "train.json", "train/JPEGImages")
    exact = convert(tmp_path, short_px=12, resize="nearest", quality=None)["v0000"]
    native = Image.open(tmp_path / "train/JPEGImages/v0000/00000.jpg")
    expected = np.asarray(native.resize(to[::-1], Image.Resampling.NEAREST))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(exact.frames[0]))), expected)
    # The centre of a pixel of the small picture falls into this one of the large one.
    rows, columns = (
        np.floor((np.arange(n) + 0.5) * m / n).astype(int) for n, m in zip(to, size, strict=True)
    )
    assert np.array_equal(expected, np.asarray(native)[rows][:, columns])
    assert np.array_equal(masks_of(exact)[0][0], box(2, 3, 12, 14, size)[rows][:, columns])
    assert exact.objects.size == to and exact.more["native_size"] == list(size)
    smooth = convert(tmp_path, short_px=12)["v0000"]
    assert Image.open(io.BytesIO(smooth.frames[0])).format == "JPEG"
    assert masks_of(smooth)[0][0].tolist() == masks_of(exact)[0][0].tolist()


def _gone(source: Path) -> None:
    (source / "train/JPEGImages/v0000/00005.jpg").unlink()


def _cut(source: Path) -> None:
    path = source / "train/JPEGImages/v0000/00005.jpg"
    path.write_bytes(path.read_bytes()[:-200])


def _small(source: Path) -> None:
    picture(0, (8, 8)).save(source / "train/JPEGImages/v0000/00005.jpg")


def _all_small(source: Path) -> None:
    for path in (source / "train/JPEGImages/v0000").iterdir():
        picture(0, (8, 8)).save(path)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (_gone, "00005.jpg: no such file"),
        (_cut, "00005.jpg: does not decode"),
        (_small, "8x8 pixels; the other frames have 36x24"),
        (_all_small, "train.json says 36x24"),
    ],
)
def test_damaged_frames_are_told_in_their_place(source, damage, told):
    damage(source)
    found = convert(source)
    assert isinstance(found["v0000"], UserError) and told in str(found["v0000"])
    assert not isinstance(found["v0000"], LeftOut)
    assert isinstance(found["v0001"], Record)


def video(**change: Any) -> Any:
    return lambda content: content["videos"][0].update(change)


def annotation(**change: Any) -> Any:
    return lambda content: content["annotations"][1].update(change)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (video(file_names=["v0000/../../../../etc/passwd"]), "is no file of"),
        (video(file_names=["/etc/passwd"]), "is no file of"),
        (video(file_names=["v0000/a\nb"]), "is no file of"),
        (video(file_names=["v0000/00000.jpg", 7]), "7 is no file"),
        (video(file_names=["v0000/00000.jpg"] * 2), "names a frame twice"),
        (video(file_names=[]), "not a list of frames"),
        (video(file_names=None), "not a list of frames"),
        (video(height="24"), "its height and width are 24, 36"),
        (video(height=10**9), "its height and width are"),
        (video(height=25), "has size [24, 36], its video [height, width] [25, 36]"),
        (annotation(category_id=99), "is of unknown category 99"),
        (annotation(category_id=[1]), "is of unknown category"),
        (annotation(segmentations=[None, None]), "has 2 segmentations for 3 frames"),
        (annotation(segmentations=None), "has None segmentations for 3 frames"),
        (annotation(segmentations=[None, None, {"size": [24, 36], "counts": [5]}]), "frame 2: has runs of 5"),
        (annotation(segmentations=[None, None, code(box(0, 0, 2, 2, (9, 9)))]), "frame 2: has size [9, 9]"),
    ],
)
def test_wrong_annotations_are_told_in_their_place(source, change, told):
    rewrite(source, change)
    found = list(convert(source).values())
    assert isinstance(found[0], UserError) and told in str(found[0]), found[0]
    assert str(source / "train.json") in str(found[0])
    assert isinstance(found[1], Record)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda c: c.update(videos=7), "its videos must be a list"),
        (lambda c: c.pop("videos"), "its videos must be a list"),
        (lambda c: c.update(annotations={}), "its annotations must be a list"),
        (video(id=11), "two videos have the same id"),
        (video(file_names=["v0001/00000.jpg"]), "two videos have the folder v0001"),
        (annotation(video_id=77), "1 annotations are of no video"),
        (annotation(video_id=None), "1 annotations are of no video"),
    ],
)
def test_a_wrong_file_is_refused_at_construction(source, change, told):
    rewrite(source, change)
    with pytest.raises(UserError, match=told) as found:
        convert(source)
    assert str(source / "train.json") in str(found.value)


@pytest.mark.parametrize("text", ["", "[1]", "{", "nan", "[" * 100_000, '"x"', b"\xff\xfe"])
def test_what_is_no_json_is_refused(source, text):
    data = text if isinstance(text, bytes) else text.encode()
    (source / "train.json").write_bytes(data)
    with pytest.raises(UserError, match=r"train\.json"):
        convert(source)


def test_what_is_missing_is_told_with_where_it_must_lie(tmp_path):
    with pytest.raises(UserError, match=r"train\.json: no such file; download it from there, so that"):
        convert(tmp_path)


def test_other_counts_than_published_are_refused_unless_a_part_is_asked_for(source):
    with pytest.raises(UserError, match=r"train: 2 videos, published are 3.*convert\.partial=true"):
        convert(source, published={"train": 3, "valid": 5})
    assert len(convert(source, published={"train": 3}, partial=True)) == 2


def listed(source: Path, videos: int) -> None:
    """A JSON without frames: splits are made of names."""
    content = {
        "videos": [{"id": v, "file_names": [f"v{v:04d}/0.jpg"]} for v in range(videos)],
        "annotations": [],
    }
    (source / "train.json").write_text(json.dumps(content))


def test_splits_of_2021_are_the_last_300_and_the_210_that_are_scored(tmp_path):
    listed(tmp_path, 2985)
    converter = YouTubeVis2021(tmp_path, **settings(published={"train": 2985}))
    names = [f"v{v:04d}" for v in range(2985)]
    splits = converter.splits({"train": list(reversed(names))})  # whatever order they are stored in
    assert list(splits["train"].videos) == names[:2685]
    assert list(splits["validation"].videos) == names[2685:]
    assert list(splits["validation_first210"].videos) == names[2685:2895]
    assert len(splits["dev"].videos) == 200 and not set(splits["dev"].videos) & set(names[2685:])
    assert len(splits["train_minus_dev"].videos) == 2485
    assert converter.annotation() == tmp_path / "train.json"
    # A video that was left out as damaged moves no other one.
    splits = converter.splits({"train": [name for name in names if name != "v2700"]})
    assert len(splits["validation"].videos) == 299 and splits["validation"].videos[0] == "v2685"
    assert splits["validation_first210"].videos[-1] == "v2894"


def test_splits_of_2019_are_positions_of_the_training_list(tmp_path):
    listed(tmp_path, 2238)
    (tmp_path / "valid.json").write_text(json.dumps({"videos": [{"id": 1, "file_names": ["x/0.jpg"]}]}))
    converter = YouTubeVis2019(tmp_path, **settings(published={"train": 2238, "valid": 1}))
    names = [f"v{v:04d}" for v in range(2238)]
    splits = {name: list(s.videos) for name, s in converter.splits({"train": names, "valid": ["x"]}).items()}
    assert splits["validation"] == names[600:900]
    assert splits["train"] == names[:600] + names[900:]
    assert splits["solv_train"] == [*names, "x"]
    assert splits["interpreter_train"] == [*names[:600], *names[900:], "x"]
    assert splits["tfds_train"] == names[:1838]
    assert splits["tfds_validation"] == names[1838:2038] and len(splits["tfds_validation"]) == 200
    assert splits["tfds_test"] == names[2038:]
    assert len(splits["dev"]) == 194 and not set(splits["dev"]) & set(splits["validation"])


def test_a_part_of_the_list_has_no_splits_by_position(tmp_path):
    listed(tmp_path, 1000)
    for kind in (YouTubeVis2019, YouTubeVis2021):
        converter = kind(tmp_path, **settings(published={"train": 2238}, partial=True))
        splits = converter.splits({"train": [f"v{v:04d}" for v in range(1000)]})
        assert set(splits) == {"train", "dev", "train_minus_dev"}


def test_codes_of_a_real_annotation_are_kept_pixel_for_pixel(tmp_path):
    path = SHARED / "ytvis_fixture/ann.json"
    if not path.is_file():
        pytest.skip("needs shared/data/ytvis_fixture")
    real = json.loads(path.read_text())
    given = real["annotations"][0]["segmentation"]
    size = tuple(given["size"])
    content = {
        "videos": [
            {"id": 1, "height": size[0], "width": size[1], "file_names": [real["images"][0]["file_name"]]}
        ],
        "annotations": [{"id": 1, "video_id": 1, "category_id": 1, "segmentations": [given]}],
        "categories": real["categories"],
    }
    write_ytvis(tmp_path, content, "train.json", "train/JPEGImages")
    record = convert(tmp_path)["0043f083b5"]
    mask = masks_of(record)[0][0]
    assert int(mask.sum()) == real["annotations"][0]["area"] == 6377 and record.classes == ["sedan"]
