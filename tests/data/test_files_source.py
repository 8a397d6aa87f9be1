"""Folders of frames and masks become videos and their truth; what is wrong with them is said at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vocl.data.sources.files import FrameFolders
from vocl.errors import UserError
from vocl.interface import VOID

SIZE = (12, 16)


def labels(number: int) -> np.ndarray:
    out = np.zeros(SIZE, np.uint8)
    out[2:6, number : number + 4] = 1
    out[8:10, 2:5] = 3
    out[0, 0] = VOID
    return out


def indexed(values: np.ndarray) -> Image.Image:
    image = Image.fromarray(values)
    image.putpalette([v for i in range(256) for v in (i, 255 - i, 7 * i % 256)])  # mode L becomes P
    return image


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    """Dataset `mine`: train/{a, b}, validation/{c}; b has no masks."""
    for split, video in (("train", "b"), ("train", "a"), ("validation", "c")):
        folder = tmp_path / "mine" / split / video
        (folder / "frames").mkdir(parents=True)
        for number in (0, 1, 2, 10):
            frame = np.full((*SIZE, 3), 20 * number, np.uint8)
            Image.fromarray(frame).save(folder / "frames" / f"{number}.png")
        if video != "b":
            (folder / "masks").mkdir()
            for number in (0, 1, 2, 10):
                image = indexed(labels(number)) if video == "a" else Image.fromarray(labels(number))
                image.save(folder / "masks" / f"{number}.png")
    (tmp_path / "mine" / ".cache").mkdir()
    (tmp_path / "mine" / "train" / "README.txt").write_text("not a video")
    return tmp_path


def source(data_root: Path, split: str = "train") -> FrameFolders:
    return FrameFolders(split, data_root, name="mine")


def test_videos_are_sorted_and_frames_are_in_natural_order(data_root):
    train = source(data_root)
    assert [video.name for video in train] == ["a", "b"] and len(train) == 2
    video = train[0]
    assert (video.length, video.size) == (4, SIZE)
    frames = video.frames([3, 0, 0, 2])
    assert frames.dtype == np.uint8 and frames.shape == (4, *SIZE, 3)
    assert frames[:, 0, 0, 0].tolist() == [200, 0, 0, 40]
    assert video.frames([]).shape == (0, *SIZE, 3)
    train.check()


@pytest.mark.parametrize(("split", "video"), [("train", "a"), ("validation", "c")], ids=["indexed", "grey"])
def test_truth_is_what_the_masks_say(data_root, split, video):
    truth = source(data_root, split).truth(video)
    found, contested = truth.labels("error")
    assert (truth.size, truth.length, contested) == (SIZE, 4, 0)
    assert np.array_equal(found, np.stack([labels(n) for n in (0, 1, 2, 10)]))


def test_video_without_masks_has_no_truth(data_root):
    assert source(data_root).truth("b") is None


def test_construction_reads_no_file(data_root):
    for path in (data_root / "mine").rglob("*.png"):
        path.write_bytes(b"broken")
    train = source(data_root)
    with pytest.raises(UserError, match=r"a/frames/0\.png: not an image"):
        train.check()


def test_missing_dataset_names_the_folder_and_its_layout(tmp_path):
    with pytest.raises(UserError, match="dataset 'mine' needs") as caught:
        source(tmp_path)
    assert f"{tmp_path / 'mine'}/<split>/<video>/frames" in str(caught.value)


def test_missing_split_names_those_that_exist(data_root):
    with pytest.raises(UserError, match="has no split 'dev'; choose from train, validation"):
        source(data_root, "dev")


def test_dataset_without_splits_and_split_without_videos(tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError, match="has no split 'train'; it must hold <split>"):
        source(tmp_path)
    (tmp_path / "mine" / "train").mkdir()
    with pytest.raises(UserError, match="mine/train: holds no video"):
        source(tmp_path)


def drop_frames(video: Path) -> None:
    for path in (video / "frames").iterdir():
        path.unlink()


def drop_a_mask(video: Path) -> None:
    (video / "masks" / "2.png").unlink()


def shrink_a_mask(video: Path) -> None:
    Image.fromarray(labels(0)[:6]).save(video / "masks" / "2.png")


def shrink_a_frame(video: Path) -> None:
    Image.fromarray(np.zeros((6, 16, 3), np.uint8)).save(video / "frames" / "2.png")


def colour_a_mask(video: Path) -> None:
    Image.fromarray(labels(2)).convert("RGB").save(video / "masks" / "2.png")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (drop_frames, "train/a/frames: no frames"),
        (drop_a_mask, r"train/a/masks: 3 masks \(\*.png\) for 4 frames"),
        (shrink_a_mask, "masks/2.png: 16x6 pixels; its frame has 16x12"),
        (shrink_a_frame, "frames/2.png: 16x6 pixels; the other frames have 16x12"),
        (colour_a_mask, "masks/2.png: image mode RGB; a mask is an 8-bit indexed or grey PNG"),
    ],
)
def test_check_finds_by_headers_what_would_fail_later(data_root, spoil, says):
    spoil(data_root / "mine" / "train" / "a")
    train = source(data_root)
    with pytest.raises(UserError, match=says) as caught:
        train.check()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spoil", [drop_a_mask, shrink_a_mask, colour_a_mask])
def test_truth_refuses_wrong_masks_without_check(data_root, spoil):
    spoil(data_root / "mine" / "train" / "a")
    with pytest.raises(UserError, match="masks"):
        source(data_root).truth("a")


def test_frames_that_do_not_decode_or_differ_in_size(data_root):
    folder = data_root / "mine" / "train" / "b" / "frames"
    noise = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), np.uint8)
    Image.fromarray(noise).save(folder / "11.jpg")
    (folder / "11.jpg").write_bytes((folder / "11.jpg").read_bytes()[:-150])
    video = source(data_root)[1]
    with pytest.raises(UserError, match=r"frames/11\.jpg: does not decode"):
        video.frames([4])
    shrink_a_frame(folder.parent)
    with pytest.raises(UserError, match=r"frames/2\.png: 16x6 pixels; the first frame has 16x12"):
        video.frames([0, 2])
