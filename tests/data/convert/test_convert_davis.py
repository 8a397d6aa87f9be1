"""DAVIS-2016 and -2017: the official lists decide, void stays void, and one is not taken for the other."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_sets import SIZE, box, picture, save_frames, save_labels

from vocl.data.convert.davis import Davis2016, Davis2017
from vocl.data.sources.files import read_mask
from vocl.data.store.record import Record
from vocl.errors import UserError

SHARED = Path(os.environ.get("VOCL_SHARED", Path(__file__).parents[3] / "../shared")) / "data"
LENGTH = 3
LISTS = {"train": "2017/train.txt", "validation": "2017/val.txt", "test-dev": "2017/test-dev.txt"}


def labels(number: int) -> np.ndarray:
    out = np.zeros(SIZE, np.uint8)
    out[box(2, 3, 9, 12)], out[box(10, number, 14, 20)], out[box(20, 0, 24, 5)] = 1, 2, 255
    return out


def lists(root: Path, folder: str, paths: bool = False, **names: list[str]) -> None:
    """Official lists: of names as in 2017, or of pairs of files as in 2016."""
    (root / "ImageSets" / folder).mkdir(parents=True, exist_ok=True)
    for name, sequences in names.items():
        lines = [
            f"/JPEGImages/480p/{s}/{t:05d}.jpg /Annotations/480p/{s}/{t:05d}.png " if paths else s
            for s in sequences
            for t in range(LENGTH if paths else 1)
        ]
        (root / f"ImageSets/{folder}/{name.replace('_', '-')}.txt").write_text("\n".join(lines) + "\n")


def tree(root: Path, year: int, *sequences: str, annotations: str = "Annotations") -> None:
    for sequence in sequences:
        save_frames(root / "JPEGImages/480p" / sequence, range(LENGTH))
        for number in range(LENGTH):
            path = root / annotations / "480p" / sequence / f"{number:05d}.png"
            if year == 2017:
                save_labels(path, labels(number))
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(box(2, 3, 9, 12 + number).astype(np.uint8) * 255).save(path)


def convert(converter: Any) -> dict[str, Record | UserError]:
    return {unit.name: found for unit in converter.units() for found in converter.records(unit)}


def davis2016(root: Path, **more: Any) -> Davis2016:
    return Davis2016(root, **({"resolution": "480p", "published": None, "partial": False} | more))


def davis2017(root: Path, **more: Any) -> Davis2017:
    given: dict[str, Any] = {"resolution": "480p", "annotations": "Annotations", "lists": LISTS}
    return Davis2017(root, **(given | {"sparse": ["test-dev"], "published": None, "partial": False} | more))


def test_the_lists_of_2016_say_what_belongs_where(tmp_path):
    tree(tmp_path, 2016, "bear", "camel", "dog", "extra")
    lists(tmp_path, "480p", paths=True, train=["bear", "dog"], val=["camel"])
    converter = davis2016(tmp_path)
    found = convert(converter)
    assert {name: record.split for name, record in found.items()} == {
        "bear": "train",
        "dog": "train",
        "camel": "validation",
    }
    record = found["bear"]
    assert list(record.frames) == [
        (tmp_path / f"JPEGImages/480p/bear/{t:05d}.jpg").read_bytes() for t in range(LENGTH)
    ]
    assert [m.tolist() for m in record.masks] == [
        box(2, 3, 9, 12 + t).astype(int).tolist() for t in range(LENGTH)
    ]
    splits = converter.splits({"train": ["bear", "dog"], "validation": ["camel"]})
    assert splits["trainval"].videos == ["bear", "camel", "dog"]


def test_a_tree_of_2017_given_as_2016_has_its_sequences_of_2016_alone(tmp_path):
    tree(tmp_path, 2017, "bear", "camel", "dog")
    lists(tmp_path, "2017", train=["bear", "dog"], val=["camel"])
    with pytest.raises(UserError, match=r"lists there: 2017/train.txt, 2017/val.txt; add its ImageSets"):
        davis2016(tmp_path)
    with pytest.raises(UserError, match=r"unknown which of the 3 sequences"):
        davis2016(tmp_path, partial=True)
    lists(tmp_path, "2016", train=["bear"], val=["camel"])
    found = convert(davis2016(tmp_path))
    assert set(found) == {"bear", "camel"}
    assert found["bear"].masks[0].tolist() == (labels(0) > 0).astype(int).tolist()


def test_without_lists_a_part_is_validation_if_its_masks_are_binary(tmp_path):
    tree(tmp_path, 2016, "bear")
    with pytest.raises(UserError, match="unknown which of the 1 sequences"):
        davis2016(tmp_path)
    assert convert(davis2016(tmp_path, partial=True))["bear"].split == "validation"
    for number in range(LENGTH):
        numbered = np.where(labels(number) == 255, 0, labels(number))
        save_labels(tmp_path / f"Annotations/480p/bear/{number:05d}.png", numbered)
    error = convert(davis2016(tmp_path, partial=True))["bear"]
    assert isinstance(error, UserError) and "numbers objects, as masks of DAVIS-2017 do" in str(error)


def test_objects_of_2017_keep_their_numbers_and_void_stays_void(tmp_path):
    tree(tmp_path, 2017, "bear", "camel")
    tree(tmp_path, 2016, "bear", "camel", annotations="Annotations_unsupervised")
    lists(tmp_path, "2017", train=["bear"], val=["camel"], test_dev=["elsewhere"])
    found = convert(davis2017(tmp_path))
    assert {name: record.split for name, record in found.items()} == {"bear": "train", "camel": "validation"}
    assert [m.tolist() for m in found["camel"].masks] == [labels(t).tolist() for t in range(LENGTH)]
    other = convert(davis2017(tmp_path, annotations="Annotations_unsupervised"))
    assert other["bear"].masks[0].max() == 255


def test_a_test_split_has_masks_where_there_are_any(tmp_path):
    tree(tmp_path, 2017, "bear", "camel", "dog", "elk")
    lists(tmp_path, "2017", train=["bear"], val=["camel"], test_dev=["dog", "elk"])
    for t in (1, 2):
        (tmp_path / f"Annotations/480p/dog/{t:05d}.png").unlink()
    shutil.rmtree(tmp_path / "Annotations/480p/elk")
    found = convert(davis2017(tmp_path))
    assert [mask is None for mask in found["dog"].masks] == [False, True, True]
    assert found["elk"].masks is None and found["elk"].split == "test-dev"


def test_missing_sequences_masks_and_lists_are_told(tmp_path):
    with pytest.raises(UserError, match=r"JPEGImages/480p: no such folder; download DAVIS-2017 from https"):
        davis2017(tmp_path)
    tree(tmp_path, 2017, "bear", "camel")
    with pytest.raises(UserError, match=r"2017/train\.txt: no such file"):
        davis2017(tmp_path)
    lists(tmp_path, "2017", train=["bear", "fox"], val=["camel"])
    with pytest.raises(UserError, match=r"1 of 2 videos are not in .* such as fox"):
        davis2017(tmp_path)
    assert set(convert(davis2017(tmp_path, partial=True))) == {"bear", "camel"}
    lists(tmp_path, "2017", train=["bear"], val=["camel", "bear"])
    with pytest.raises(UserError, match="names bear, which is of train"):
        davis2017(tmp_path)
    lists(tmp_path, "2017", train=["bear"], val=["camel"])
    with pytest.raises(UserError, match="train: 1 videos, published are 60"):
        davis2017(tmp_path, published={"train": 60, "validation": 30})
    (tmp_path / "Annotations/480p/bear/00001.png").unlink()
    picture(0, (8, 8)).save(tmp_path / "JPEGImages/480p/camel/00001.jpg")
    found = convert(davis2017(tmp_path))
    assert "2 masks (*.png) for 3 frames" in str(found["bear"])
    assert "8x8 pixels" in str(found["camel"])


def test_lists_of_nothing_leave_nothing_to_read(tmp_path):
    tree(tmp_path, 2017, "bear")
    lists(tmp_path, "2017", train=[], val=["../../etc"])
    with pytest.raises(UserError, match="holds no sequence of the lists"):
        davis2017(tmp_path, partial=True)


def test_real_sequences_of_2016():
    source = SHARED / "davis2016"
    if not source.is_dir():
        pytest.skip("needs shared/data/davis2016")
    converter = davis2016(source, partial=True)
    assert len(converter.units()) == 10
    unit = next(unit for unit in converter.units() if unit.name == "car-shadow")
    (record,) = converter.records(unit)
    assert isinstance(record, Record) and len(record.frames) == 40 and record.split == "validation"
    path = source / "Annotations/480p/car-shadow/00007.png"
    assert np.array_equal(list(record.masks)[7], read_mask(path, binary=True))
    assert 0.5 < unit.weight / sum(map(len, record.frames)) < 2


def test_real_frames_and_masks_of_2017(tmp_path):
    source = SHARED / "davis2017_judo"
    if not source.is_dir():
        pytest.skip("needs shared/data/davis2017_judo")
    for kind, folder in (("images", "JPEGImages"), ("masks", "Annotations")):
        (tmp_path / folder / "480p/judo").mkdir(parents=True)
        for path in source.glob(f"{kind}_*"):
            shutil.copy(path, tmp_path / folder / "480p/judo" / path.name.removeprefix(f"{kind}_"))
    lists(tmp_path, "2017", val=["judo"])
    error = convert(davis2017(tmp_path, partial=True))["judo"]
    assert isinstance(error, UserError) and "4 masks (*.png) for 16 frames" in str(error)
    lists(tmp_path, "2017", val=[], test_dev=["judo"])
    error = convert(davis2017(tmp_path, partial=True))["judo"]
    assert "00005.png: 853x480 pixels; its frame has 854x480" in str(error)  # so it is in that folder
    (tmp_path / "Annotations/480p/judo/00005.png").unlink()
    record = convert(davis2017(tmp_path, partial=True))["judo"]
    masks = list(record.masks)
    assert len(masks) == 16 and [t for t, mask in enumerate(masks) if mask is not None] == [0, 8, 13]
    assert [np.unique(masks[t]).tolist() for t in (0, 8, 13)] == [[0, 1], [0, 3], [0, 4]]
    assert list(record.frames) == [(source / f"images_{t:05d}.jpg").read_bytes() for t in range(16)]
