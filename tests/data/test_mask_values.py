"""Values of masks are labels, exactly; a truth in which nothing can be scored is told before training."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vocl.assemble import check_evaluations, make_dataset
from vocl.config.compose import composed
from vocl.data.feed import Feed
from vocl.data.served import Served
from vocl.data.sources.files import FrameFolders, read_mask
from vocl.errors import UserError


def grey_png(path: Path, labels: np.ndarray, bits: int) -> Path:
    """A grey PNG of 1, 2, 4 or 8 bits, whose raw values are `labels`."""
    height, width = labels.shape
    bitmap = np.unpackbits(labels[..., None], axis=2)[..., 8 - bits :].reshape(height, -1)
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in bitmap)
    parts = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0),
        b"IDAT": zlib.compress(rows),
        b"IEND": b"",
    }
    chunks = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts.items()
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    return path


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_grey_values_are_as_they_stand_in_the_file(tmp_path, bits):
    labels = (np.arange(15 * 7).reshape(7, 15) * 5 % 2**bits).astype(np.uint8)
    assert np.array_equal(read_mask(grey_png(tmp_path / "a.png", labels, bits), binary=False), labels)


@pytest.mark.parametrize("colours", [2, 4, 16, 256])
def test_palette_of_any_depth_is_read_by_its_indices(tmp_path, colours):
    labels = (np.arange(15 * 7).reshape(7, 15) * 5 % colours).astype(np.uint8)
    image = Image.fromarray(labels)
    image.putpalette([255 - v for i in range(colours) for v in (i, i, i)])
    image.save(tmp_path / "a.png", bits={2: 1, 4: 2, 16: 4, 256: 8}[colours])
    assert np.array_equal(read_mask(tmp_path / "a.png", binary=False), labels)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_binary_masks_of_any_depth_have_one_object(tmp_path, bits):
    labels = np.zeros((7, 15), np.uint8)
    labels[2:5, 3:9] = 2**bits - 1
    found = read_mask(grey_png(tmp_path / "a.png", labels, bits), binary=True)
    assert np.array_equal(found, (labels > 0).astype(np.uint8))


def test_what_is_no_label_is_refused(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(UserError, match=r"deep\.png: image mode I;16"):
        read_mask(tmp_path / "deep.png", binary=False)
    grey_png(tmp_path / "bit.png", np.eye(4, dtype=np.uint8), 1)
    with pytest.raises(UserError, match=r"bit\.png: image mode 1; .*set binary=true"):
        read_mask(tmp_path / "bit.png", binary=False)


def test_a_jpeg_is_no_mask_whatever_its_name(tmp_path):
    Image.fromarray(np.eye(16, dtype=np.uint8)).save(tmp_path / "a.png", "JPEG")
    for binary in (False, True):
        with pytest.raises(UserError, match=r"a\.png: is a JPEG, .* save masks as PNG"):
            read_mask(tmp_path / "a.png", binary)


def test_another_lossless_kind_under_the_name_of_a_png_is_read(tmp_path):
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(labels).save(tmp_path / "a.png", "BMP")
    assert np.array_equal(read_mask(tmp_path / "a.png", binary=False), labels)


def folders(root: Path, values: dict[str, int]) -> Path:
    """Dataset `own`, split validation: a video for each name, its object written as a value."""
    for name, value in values.items():
        video = root / "own" / "validation" / name
        (video / "frames").mkdir(parents=True)
        (video / "masks").mkdir()
        mask = np.zeros((16, 16), np.uint8)
        mask[2:6, 3:9] = value
        for number in range(2):
            Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(video / "frames" / f"{number}.png")
            Image.fromarray(mask).save(video / "masks" / f"{number}.png")
    return root


def check(root: Path, *overrides: str) -> None:
    own = ["dataset=files", "dataset.name=own", f"runtime.data_root={root}", f"runtime.root={root}"]
    check_evaluations(composed([*own, *overrides]))


def test_masks_of_0_and_255_alone_are_a_mistake_that_a_setting_mends(tmp_path):
    root = folders(tmp_path, {"a": 255, "b": 255})
    says = r"dataset own: no frame of split 'validation' has an object.*255.*dataset\.source\.binary=true"
    with pytest.raises(UserError, match=says):
        check(root)
    check(root, "dataset.source.binary=true")
    source = FrameFolders("validation", root, name="own", binary=True)
    truth = source.truth("a")
    assert len(truth.objects) == 1 and truth.void == (None, None)
    assert np.array_equal(truth.labels("error")[0][0], source[0].labels()[0])


def test_empty_masks_are_told_and_one_object_in_any_video_will_do(tmp_path):
    with pytest.raises(UserError, match="no frame of split 'validation' has an object, its masks are 0"):
        check(folders(tmp_path / "empty", {"a": 0, "b": 0}))
    check(folders(tmp_path / "some", {"a": 0, "b": 255, "c": 7}))


def test_an_evaluation_on_a_dataset_of_its_own_is_told_its_own_key(tmp_path):
    root = folders(tmp_path, {"a": 255})
    config = composed(["debug=tiny", f"runtime.data_root={root}"])
    own = composed(["dataset=files", "dataset.name=own"]).dataset
    scored = {"discovery": replace(config.eval["discovery"], dataset=own)}
    with pytest.raises(UserError, match=r"eval\.discovery\.dataset\.source\.binary=true"):
        check_evaluations(replace(config, eval=scored))


def test_training_that_reads_masks_is_told_too(tmp_path):
    root = folders(tmp_path, {"a": 255})
    settings = make_dataset(composed(["dataset=files", "dataset.name=own", "dataset.clip_frames=2"]))
    for binary, needs, fails in (
        (False, {"video", "masks"}, True),
        (False, {"video"}, False),
        (True, {"video", "masks"}, False),
    ):
        source = FrameFolders("validation", root, name="own", binary=binary)
        feed = Feed(Served(source, needs), settings, 0, 1, 2)
        if not fails:
            feed.check()
            continue
        with pytest.raises(UserError, match=r"no frame of the training split has.*dataset\.source\.binary"):
            feed.check()
