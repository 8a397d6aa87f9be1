"""MOVi from TFRecords as TFDS writes them: exact, and every fault in its place."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tfrecords
from tfrecords import SIDE, example, features, scene, write, write_movi

from vocl.data.convert.crc32c import crc32c, masked
from vocl.data.convert.movi import Movi
from vocl.data.convert.tfrecord import Example, records
from vocl.data.store.record import Record
from vocl.errors import UserError

NAMES = [f"class {number}" for number in range(17)]
FIRST = "movi_e-train.tfrecord-00000-of-00002"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_movi(tmp_path)
    return tmp_path


def movi(source: Path, **settings: Any) -> Movi:
    given: dict[str, Any] = {
        "name": "movi_e",
        "size": SIDE,
        "class_feature": "instances/category",
        "class_names": NAMES,
        "dense": ["flow", "backward_flow", "depth"],
        "published": {"train": 4, "validation": 1},
        "partial": False,
    }
    return Movi(source, **(given | settings))


def convert(source: Path, **settings: Any) -> list[Record | UserError]:
    converter = movi(source, **settings)
    return [found for unit in converter.units() for found in converter.records(unit)]


def one(source: Path, change: dict[str, Any]) -> Record | UserError:
    """What becomes of one scene with other features; None takes a feature away."""
    changed = {k: v for k, v in (features(0) | change).items() if v is not None}
    write(source / "only/movi_e-train.tfrecord-00000-of-00001", [example(changed)])
    return convert(source / "only", published=None)[0]


def test_known_values_of_the_checksum():
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"") == 0
    rng = np.random.default_rng(0)
    for size in (1, 2, 3, 8, 1023, 1024, 1025, 5000, 70_001):
        data = rng.bytes(size)
        assert masked(data) == tfrecords.masked_crc(data), size


def test_a_release_comes_back_exactly(source):
    found = convert(source)
    assert [(record.name, record.split) for record in found] == [
        *((f"train-{number}", "train") for number in range(4)),
        ("validation-4", "validation"),
    ]
    for number, record in enumerate(found):
        arrays, stored = scene(number), features(number)
        assert list(record.frames) == stored["video"]
        assert np.array_equal(np.stack(list(record.masks)), arrays["segmentations"][..., 0])
        assert np.array_equal(record.dense["flow"].values, arrays["forward_flow"][..., ::-1])
        assert np.array_equal(record.dense["backward_flow"].values, arrays["backward_flow"][..., ::-1])
        assert np.array_equal(record.dense["depth"].values, arrays["depth"])
        assert record.dense["depth"].values.dtype == np.uint16
        assert (record.dense["flow"].low, record.dense["flow"].high) == (-4.5, 3.25)
        assert (record.dense["depth"].low, record.dense["depth"].high) == (1.5, 20.25)
        assert record.classes == ["class 16", "class 13"] and record.fps == 12.0
        more = record.more
        assert more["instances/asset_id"] == ["30_CONSTRUCTION_SET", "café"]
        assert more["instances/visibility"] == [16, 16, 16, 0, 24, 24]
        assert len(more["instances/bboxes/ragged_flat_values"]) == 20
        assert more["camera/focal_length"] == [35.0] and more["background"] == "photo_studio"
        json.dumps(more)


def test_splits_are_the_releases_and_dev(source):
    names = {"train": [f"train-{number}" for number in range(4)], "validation": ["validation-4"]}
    splits = movi(source).splits(names)
    assert {name: len(split.videos) for name, split in splits.items()} == {
        "train": 4,
        "validation": 1,
        "dev": 1,
        "train_minus_dev": 3,
    }


@pytest.mark.parametrize("packed", [False, True])
def test_a_flow_of_bytes_is_the_same_flow(source, packed):
    flow = scene(0)["forward_flow"]
    parts = [zlib.compress(frame.tobytes()) if packed else frame.tobytes() for frame in flow.astype("<u2")]
    found = one(source, {"forward_flow": parts})
    assert np.array_equal(found.dense["flow"].values, flow[..., ::-1])


def test_lists_that_are_not_packed_are_read(source):
    # The wire format by hand: field 3 of Feature holds field 1, integer by integer.
    values = b"".join(bytes([8, *varint]) for varint in ([5], [0xFF, 0x03], [0xFF] * 9 + [1]))
    feature = bytes([0x1A, len(values)]) + values
    entry = b"\x0a\x01n\x12" + bytes([len(feature)]) + feature
    features_ = b"\x0a" + bytes([len(entry)]) + entry
    message = Example(b"\x0a" + bytes([len(features_)]) + features_, "here")
    assert message.integers("n").tolist() == [5, 511, -1]


def damage(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_a_corrupt_record_is_an_error_in_its_place_and_the_next_is_read(source):
    damage(source / FIRST, 500)
    found = convert(source)
    assert len(found) == 5 and isinstance(found[0], UserError)
    assert str(found[0]) == f"{source / FIRST}: record 0 is damaged, its checksum is another"
    assert [record.name for record in found[1:]] == ["train-1", "train-2", "train-3", "validation-4"]


def test_a_damaged_length_ends_the_file_and_says_so(source):
    damage(source / FIRST, 2)
    found = convert(source)
    assert len(found) == 4 and "the rest cannot be found" in str(found[0])
    lengths = {"splits": [{"name": "train", "shardLengths": ["2", "2"]}]}
    (source / "dataset_info.json").write_text(json.dumps(lengths))
    found = convert(source)
    assert "record 1 of 2 is not in it" in str(found[1]) and len(found) == 5


@pytest.mark.parametrize("left", [5, 40])
def test_a_truncated_file_is_told(source, left):
    path = source / FIRST
    data = path.read_bytes()
    second = 12 + struct.unpack("<Q", data[:8])[0] + 4
    path.write_bytes(data[: second + left])
    found = list(records(path))
    assert len(found) == 2 and isinstance(found[0], bytes)
    assert "cut short within" in str(found[1]) and "record 1" in str(found[1])
    path.write_bytes(b"")
    assert list(records(path)) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"video": None}, "has no video"),
        ({"video": features(0)["video"][:2]}, "holds 2 frames, which is not its num_frames"),
        ({"video": [], "metadata/num_frames": np.array([0])}, "holds 0 frames"),
        ({"segmentations": features(0)["segmentations"][:2]}, "2 pictures of segmentations for 3 frames"),
        ({"video": [f[: len(f) // 2] for f in features(0)["video"]]}, "video 0: does not decode"),
        ({"segmentations": features(0)["video"]}, "image mode RGB"),
        ({"depth": features(0)["segmentations"]}, "image mode L"),
        ({"forward_flow": scene(0)["forward_flow"][:2]}, "forward_flow has 1024 values"),
        ({"forward_flow": scene(0)["forward_flow"].astype(np.int64) - 70_000}, "of 16 bits"),
        ({"forward_flow": [b"", b"x", b"yy"]}, "forward_flow has"),
        ({"metadata/forward_flow_range": np.array([1.0], np.float32)}, "not its least and most"),
        ({"metadata/depth_range": np.array([0, 1])}, "is no list of floats"),
        ({"instances/category": np.array([17, 0])}, "of 17 classes"),
        ({"instances/category": np.array([1])}, "its masks name object 2, it has 1"),
        ({"metadata/video_name": [b"a", b"b"]}, "metadata/video_name has 2 values"),
        (features(0, 2 * SIDE), "32x32 pixels; movi_e_16 is the release of 16x16"),
    ],
)
def test_a_scene_that_is_not_as_the_builder_makes_it_is_refused(source, change, told):
    found = one(source, change)
    assert isinstance(found, UserError) and told in str(found)


def test_what_is_no_example_is_refused(source):
    for data in (b"\xff" * 30, b"\x0a\x7f", b"\x0b", b""):
        write(source / "only/movi_e-train.tfrecord-00000-of-00001", [data])
        found = convert(source / "only", published=None)
        assert len(found) == 1 and isinstance(found[0], UserError) and "record 0" in str(found[0])


def test_missing_files_are_told_with_where_they_are(source):
    with pytest.raises(
        UserError, match=r"no such folder; copy the files of gs://kubric-public/tfds/movi_e/16x16"
    ):
        movi(source / "nowhere")
    with pytest.raises(UserError, match="holds no movi_d-<split>"):
        movi(source, name="movi_d")
    (source / FIRST).unlink()
    with pytest.raises(UserError, match="1 files of train are missing, such as number 0; copy the files"):
        movi(source)
    assert len(convert(source, partial=True)) == 3
    with pytest.raises(UserError, match="files of test are missing"):
        movi(source, published={"test": 999})
