"""DAVIS-2016: which sequences belong to a split, and that 255 is the object."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vocl.commands import data
from vocl.data.sources.davis import Davis2016
from vocl.errors import UserError

SHARED = Path(os.environ.get("VOCL_SHARED", Path(__file__).parents[2] / "../shared")) / "data"
SIZE = (10, 14)


def mask(number: int) -> np.ndarray:
    out = np.zeros(SIZE, np.uint8)
    out[2:5, number : number + 4] = 255
    return out


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    """Sequences bear, camel, dog, two frames each, without ImageSets."""
    for sequence in ("dog", "bear", "camel"):
        frames = tmp_path / "davis2016" / "JPEGImages" / "480p" / sequence
        masks = tmp_path / "davis2016" / "Annotations" / "480p" / sequence
        frames.mkdir(parents=True)
        masks.mkdir(parents=True)
        for number in range(2):
            Image.fromarray(np.full((*SIZE, 3), 90, np.uint8)).save(frames / f"{number:05d}.jpg")
            Image.fromarray(mask(number)).save(masks / f"{number:05d}.png")
    return tmp_path


def add_lists(data_root: Path, **lists: list[str]) -> None:
    folder = data_root / "davis2016" / "ImageSets" / "480p"
    folder.mkdir(parents=True)
    for name, sequences in lists.items():
        lines = [
            f"/JPEGImages/480p/{s}/{i:05d}.jpg /Annotations/480p/{s}/{i:05d}.png "
            for s in sequences
            for i in (0, 1)
        ]
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")


def names(data_root: Path, split: str, sequences: list[str] | None = None) -> list[str]:
    source = Davis2016(split, data_root, name="davis2016", resolution="480p", sequences=sequences)
    return [video.name for video in source]


def test_official_lists_decide(data_root):
    add_lists(data_root, train=["camel", "bear"], val=["dog"], trainval=["dog", "camel", "bear"])
    assert names(data_root, "train") == ["bear", "camel"]
    assert names(data_root, "validation") == ["dog"]
    assert names(data_root, "trainval") == ["bear", "camel", "dog"]


def test_without_lists_everything_is_validation(data_root):
    assert names(data_root, "validation") == ["bear", "camel", "dog"]
    with pytest.raises(UserError, match=r"train.txt: no such file.*name them in dataset.source.sequences"):
        names(data_root, "train")


def add_bare_lists(data_root: Path, year: str, **lists: list[str]) -> None:
    folder = data_root / "davis2016" / "ImageSets" / year
    folder.mkdir(parents=True)
    for name, sequences in lists.items():
        (folder / f"{name}.txt").write_text("\n".join(sequences) + "\n")


def test_tree_of_davis_2017_has_the_lists_of_2016_beside_its_own(data_root):
    add_bare_lists(data_root, "2017", train=["bear"], val=["camel", "dog"])
    says = r"ImageSets/480p/val.txt: no such file.*'validation'; lists there: 2017/train.txt, 2017/val.txt"
    with pytest.raises(UserError, match=says):
        names(data_root, "validation")
    add_bare_lists(data_root, "2016", train=["camel", "bear"], val=["dog"])
    assert names(data_root, "train") == ["bear", "camel"]
    assert names(data_root, "validation") == ["dog"]
    with pytest.raises(UserError, match=r"trainval.txt: no such file.*2016/train.txt, 2016/val.txt"):
        names(data_root, "trainval")
    add_lists(data_root, train=["camel"], val=["dog", "bear"])
    assert names(data_root, "validation") == ["bear", "dog"], "the lists of 2016 itself come first"


def test_any_folder_of_lists_asks_for_the_right_ones(data_root):
    (data_root / "davis2016" / "ImageSets").mkdir()
    with pytest.raises(UserError, match=r"no such file.*lists there: none"):
        names(data_root, "validation")
    assert names(data_root, "validation", ["dog"]) == ["dog"]


def test_several_objects_of_davis_2017_are_the_one_foreground(data_root):
    path = data_root / "davis2016" / "Annotations" / "480p" / "dog" / "00000.png"
    values = np.zeros(SIZE, np.uint8)
    values[2:5, 1:4], values[6:9, 1:4] = 1, 2
    image = Image.fromarray(values)
    image.putpalette([v for i in range(256) for v in (i, 255 - i, i)])
    image.save(path)
    source = Davis2016("validation", data_root, name="davis2016", resolution="480p", sequences=["dog"])
    assert np.array_equal(source[0].labels()[0], (values > 0).astype(np.uint8))


@pytest.mark.parametrize("lists", [False, True])
def test_named_sequences_are_both_splits(data_root, lists):
    if lists:
        add_lists(data_root, train=["camel", "bear"], val=["dog"])
    assert names(data_root, "train", ["dog", "bear"]) == ["dog", "bear"]
    assert names(data_root, "validation", ["dog", "bear"]) == ["dog", "bear"]


def test_truth_is_one_object_and_no_void(data_root):
    source = Davis2016("validation", data_root, name="davis2016", resolution="480p", sequences=["dog"])
    source.check()
    truth = source.truth("dog")
    assert len(truth.objects) == 1 and truth.void == (None, None)
    assert np.array_equal(truth.labels("error")[0], np.stack([mask(0), mask(1)]) // 255)


def test_mask_saved_in_colour_is_read(data_root):
    path = data_root / "davis2016" / "Annotations" / "480p" / "bear" / "00001.png"
    Image.fromarray(mask(1)).convert("RGBA").save(path)
    source = Davis2016("validation", data_root, name="davis2016", resolution="480p", sequences=["bear"])
    source.check()
    assert np.array_equal(source[0].labels()[1], mask(1) // 255)


def test_errors_name_the_path_and_the_choices(data_root):
    with pytest.raises(UserError, match="has no split 'test'; choose from train, validation, trainval"):
        names(data_root, "test")
    with pytest.raises(UserError, match=r"1 of 2 sequences are not in .*: cow; it holds bear, camel, dog"):
        names(data_root, "train", ["dog", "cow"])
    with pytest.raises(UserError, match=r"dataset.source.sequences: names no sequence"):
        names(data_root, "train", [])
    with pytest.raises(UserError, match="names a sequence twice"):
        names(data_root, "train", ["dog", "dog"])
    with pytest.raises(UserError, match="JPEGImages/1080p: no such folder; dataset 'davis2016' needs"):
        Davis2016("train", data_root, name="davis2016", resolution="1080p", sequences=None)
    add_lists(data_root, val=["dog", "zebra"])
    with pytest.raises(UserError, match=r"val.txt: 1 of 2 sequences are not in .*: zebra"):
        names(data_root, "validation")


def test_missing_masks_are_an_error_not_a_video_without_truth(data_root):
    folder = data_root / "davis2016" / "Annotations" / "480p" / "dog"
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    source = Davis2016("validation", data_root, name="davis2016", resolution="480p", sequences=["dog"])
    with pytest.raises(UserError, match=r"Annotations/480p/dog: 0 masks"):
        source.check()


@pytest.mark.skipif(not (SHARED / "davis2016").is_dir(), reason="no DAVIS-2016 in VOCL_SHARED")
def test_real_sequences():
    source = Davis2016("validation", SHARED, name="davis2016", resolution="480p", sequences=None)
    source.check()
    assert len(source) == 10 and sum(video.length for video in source) == 514
    video = source[0]
    assert (video.name, video.size) == ("blackswan", (480, 854))
    labels = video.labels()
    assert np.unique(labels).tolist() == [0, 1] and labels.shape == (50, 480, 854)
    assert video.frames([0, 49]).shape == (2, 480, 854, 3)


def test_a_store_of_davis_is_the_dataset_too(tmp_path: Path) -> None:
    for name in ("dog", "libby"):
        for kind in ("frames", "masks"):
            folder = tmp_path / "source" / "validation" / name / kind
            folder.mkdir(parents=True)
            for number in range(2):
                Image.fromarray(mask(number)).save(folder / f"{number}.png")
    words = ["prepare", "folders", f"{tmp_path}/source", f"{tmp_path}/davis2016", "convert.binary=true"]
    assert data.main(words) == 0
    settings = {"name": "davis2016", "resolution": "480p"}
    every = Davis2016("validation", tmp_path, sequences=None, **settings)
    assert [every[i].name for i in range(len(every))] == ["dog", "libby"]
    one = Davis2016("train", tmp_path, sequences=["libby"], **settings)
    assert len(one) == 1 and one.annotated == every.annotated and one.truth("libby").has_object
    one.check()
    with pytest.raises(UserError, match="as cat"):
        Davis2016("train", tmp_path, sequences=["cat"], **settings)
