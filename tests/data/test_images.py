"""Frames are as a viewer shows them, whole, or refused."""

from __future__ import annotations

import io
import os
from functools import partial

import numpy as np
import pytest
from PIL import Image, ImageOps

from vocl.data.images import Encoded, image_size, read_frame
from vocl.data.reader import open_video
from vocl.data.sources.files import FrameFolders, read_mask
from vocl.data.whole import check_whole
from vocl.errors import UserError

ORIENTATION = 274


def scene() -> np.ndarray:
    """A dark picture with a bright bar at the top and a green corner at its left."""
    out = np.full((48, 80, 3), 20, np.uint8)
    out[:16] = 230
    out[:16, :16] = (0, 255, 0)
    return out


def jpeg(picture: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=95, **options)
    return file.getvalue()


def exif(orientation: int) -> bytes:
    found = Image.Exif()
    found[ORIENTATION] = orientation
    return found.tobytes()


def stored(picture: np.ndarray, orientation: int) -> np.ndarray:
    """What a camera writes beside `orientation`, so that a viewer shows `picture`."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    image = Image.fromarray(picture)
    return np.array(image.transpose(undo[orientation]) if orientation in undo else image)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_undone_in_frames_and_sizes_and_never_in_masks(tmp_path, orientation, suffix):
    video = tmp_path / "own" / "train" / "a"
    (video / "frames").mkdir(parents=True)
    (video / "masks").mkdir()
    labels = (scene()[..., 1] > 200).astype(np.uint8)
    for number in range(2):
        image = Image.fromarray(stored(scene(), orientation))
        image.save(video / "frames" / f"{number}{suffix}", exif=exif(orientation), quality=95)
        Image.fromarray(labels).save(video / "masks" / f"{number}.png", exif=exif(orientation))
    source = FrameFolders("train", tmp_path, name="own", binary=False)
    source.check()
    own = source[0]
    assert own.size == (48, 80) == image_size(own.frame_paths[0])
    assert np.array_equal(own.labels()[0], labels)
    frames = own.frames([0, 1])
    assert np.abs(frames[0].astype(int) - scene()).mean() < 4
    shown = np.array(ImageOps.exif_transpose(Image.open(own.frame_paths[0])))
    assert np.array_equal(frames[0], shown)
    reader = open_video(video / "frames", None, None)
    assert reader.size == (48, 80) and np.array_equal(next(iter(reader)), frames[0])


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_orientations_that_mean_nothing_leave_a_frame_as_it_is(tmp_path, orientation):
    (tmp_path / "a.jpg").write_bytes(jpeg(scene(), exif=exif(orientation)))
    assert read_frame(tmp_path / "a.jpg").shape == (48, 80, 3)


def test_damaged_exif_data_do_not_lose_the_picture(tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg(scene(), exif=b"Exif\0\0nonsense"))
    assert image_size(tmp_path / "a.jpg") == (48, 80)
    assert np.abs(read_frame(tmp_path / "a.jpg").astype(int) - scene()).mean() < 4


def test_mask_of_a_turned_frame_that_is_not_turned_itself_is_refused(tmp_path):
    video = tmp_path / "own" / "train" / "a"
    (video / "frames").mkdir(parents=True)
    (video / "masks").mkdir()
    (video / "frames" / "0.jpg").write_bytes(jpeg(stored(scene(), 6), exif=exif(6)))
    Image.fromarray(np.ones((80, 48), np.uint8)).save(video / "masks" / "0.png")
    with pytest.raises(UserError, match=r"0\.png: 48x80 pixels; its frame has 80x48 as it is shown"):
        FrameFolders("train", tmp_path, name="own", binary=False).check()


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (96, 160, 3), np.uint8)


KINDS = [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"subsampling": 0}, {"optimize": True}]


@pytest.mark.parametrize("options", KINDS, ids=str)
@pytest.mark.parametrize("start", [0.3, 0.5, 0.7])
def test_jpeg_with_a_hole_is_refused(tmp_path, options, start):
    content, path = jpeg(noise(), **options), tmp_path / "a.jpg"
    path.write_bytes(content)
    assert read_frame(path).shape == (96, 160, 3), "whole, it is read"
    at = int(len(content) * start)
    path.write_bytes(content[:at] + content[at + len(content) // 5 :])
    with pytest.raises(UserError, match=r"a\.jpg: does not decode, a part of it is missing") as caught:
        read_frame(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.001, 0.1, 0.3])
@pytest.mark.parametrize("read", [read_frame, lambda path: read_mask(path, binary=False)])
def test_png_with_a_hole_is_refused(tmp_path, read, share):
    file, path = io.BytesIO(), tmp_path / "a.png"
    picture = noise() if read is read_frame else noise()[..., 0]
    Image.fromarray(picture).save(file, "PNG")
    content = file.getvalue()
    path.write_bytes(content)
    assert np.array_equal(read(path), picture), "whole, it is read"
    for at in (len(content) // 5, len(content) // 2):
        path.write_bytes(content[:at] + content[at + max(1, int(len(content) * share)) :])
        with pytest.raises(UserError, match=r"a\.png: does not decode"):
            read(path)


def cmyk() -> bytes:
    file = io.BytesIO()
    Image.fromarray(noise()).convert("CMYK").save(file, "JPEG")
    return file.getvalue()


HARMLESS = {
    "padding in front of the end": jpeg(noise())[:-2] + bytes(40) + b"\xff\xd9",
    "fill bytes": jpeg(noise())[:-2] + b"\xff" * 9 + b"\xd9",
    "an end inside a comment": jpeg(noise(), comment=b"\xff\xd9 a thumbnail ends so, too"),
    "four inks": cmyk(),
    "one pixel": jpeg(noise()[:1, :1]),
}


@pytest.mark.parametrize("content", HARMLESS.values(), ids=list(HARMLESS))
@pytest.mark.parametrize("behind", [0, 10, 300_000])
def test_unusual_jpegs_are_read_also_with_a_film_behind_them(tmp_path, content, behind):
    path = tmp_path / "motion.jpg"
    path.write_bytes(content + np.random.default_rng(1).bytes(behind).replace(b"\xff\xd9", b"xx"))
    check_whole(path)
    assert read_frame(path).shape[2] == 3


def test_png_with_bytes_behind_it_is_whole_and_cut_ones_are_not(tmp_path):
    file = io.BytesIO()
    Image.fromarray(noise()).save(file, "PNG")
    path = tmp_path / "a.png"
    path.write_bytes(file.getvalue() + bytes(300_000))
    check_whole(path)
    assert np.array_equal(read_frame(path), noise())
    for content in (file.getvalue()[:-2000], jpeg(noise(), exif=exif(1))[:-2000]):
        path.write_bytes(content)
        with pytest.raises(UserError, match="its end is missing"):
            check_whole(path)


def test_a_repaired_file_is_read_again(tmp_path):
    path, content = tmp_path / "a.jpg", jpeg(noise())
    path.write_bytes(content[:2000] + content[9000:])
    with pytest.raises(UserError, match="a part of it is missing"):
        read_frame(path)
    path.write_bytes(content)
    assert read_frame(path).shape == (96, 160, 3)


@pytest.mark.parametrize("read", [image_size, read_frame, partial(read_mask, binary=False)])
def test_a_picture_that_is_a_program_starts_none(tmp_path, monkeypatch, read):
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/started\necho 10.0\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    frame = tmp_path / "0000.png"
    frame.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n")
    with pytest.raises(UserError, match=r"0000\.png: not an image"):
        read(frame)
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("size", [(1, 1), (37, 53), (120, 160)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_is_as_pillow_decodes_it_to_the_bit(tmp_path, size, mode, progressive):
    noise = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
    picture = Image.fromarray(noise).resize(size[::-1], Image.Resampling.BICUBIC).convert(mode)
    for subsampling in range(3):
        path = tmp_path / f"{subsampling}.jpg"
        picture.save(path, quality=85, subsampling=subsampling, progressive=progressive)
        with Image.open(path) as image:
            np.testing.assert_array_equal(read_frame(path), np.array(image.convert("RGB")))


@pytest.mark.parametrize("size", [(1, 1), (7, 33), (256, 256), (131, 480)])
@pytest.mark.parametrize("kind", ["RGB", "RGBA", "L", "P", "I;16"])
def test_a_png_of_a_store_is_as_pillow_decodes_it_to_the_bit(tmp_path, size, kind):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (*size, 3), np.uint8) // rng.integers(1, 60, (*size, 1), np.uint8)
    image = Image.fromarray(pixels).convert("L").convert(kind) if kind == "I;16" else Image.fromarray(pixels)
    path = tmp_path / "frame.png"
    (image if kind == "I;16" else image.convert(kind)).save(path)
    stored = Encoded(path.read_bytes(), "frame")
    if kind == "I;16":
        with pytest.raises(UserError, match="image mode"):
            read_frame(stored)
        return
    found = read_frame(stored)
    assert found.flags.writeable and np.array_equal(found, np.array(Image.open(path).convert("RGB")))


def test_a_png_of_a_store_is_turned_as_it_says_and_refused_where_it_is_damaged():
    turned = Image.Exif()
    turned[ORIENTATION] = 6
    buffer = io.BytesIO()
    Image.fromarray(scene()).save(buffer, "PNG", exif=turned)
    assert read_frame(Encoded(buffer.getvalue(), "frame")).shape == (80, 48, 3)
    buffer = io.BytesIO()
    Image.fromarray(scene()).save(buffer, "PNG")
    for cut in (20, 60):
        with pytest.raises(UserError, match="frame"):
            read_frame(Encoded(buffer.getvalue()[:cut], "frame"))
