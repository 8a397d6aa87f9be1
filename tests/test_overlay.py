"""Overlays, label maps, videos and contact sheets show the labels that they were given."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from vocl.commands.pictures import overlay
from vocl.commands.pictures.overlay import (
    OverlayWriter,
    blend,
    contact_sheet,
    like_truth,
    palette,
    spaced,
    write_label_map,
    write_picture,
)
from vocl.data.reader import open_video


def frames(length: int = 3, size: tuple[int, int] = (20, 30)) -> np.ndarray:
    return np.full((length, *size, 3), 100, np.uint8)


def halves(length: int = 3, size: tuple[int, int] = (20, 30)) -> np.ndarray:
    labels = np.zeros((length, *size), np.int64)
    labels[:, :, size[1] // 2 :] = 1
    return labels


def test_palette_is_fixed_and_distinct():
    colours = palette(24).astype(int)
    distance = np.linalg.norm(colours[:, None] - colours[None], axis=-1)[~np.eye(24, dtype=bool)]
    assert distance.min() >= 40
    assert len({tuple(c) for c in palette()}) == 256
    assert palette().shape == (256, 3) and palette().dtype == np.uint8
    assert palette(2).tolist() == [[230, 159, 0], [86, 180, 233]]


def test_blend_mixes_and_leaves_void_alone():
    labels = halves()
    labels[:, :5] = 255
    out = blend(frames(), labels, 0.5, 0)
    assert out.dtype == np.uint8 and out.shape == (3, 20, 30, 3)
    assert (out[:, :5] == 100).all()
    assert np.abs(out[0, 10, 2].astype(int) - (palette(1)[0] * 0.5 + 50)).max() <= 1
    assert np.array_equal(blend(frames(), labels, 0.0, 0), frames())
    assert (blend(frames(), halves(), 1.0, 0)[0, 0, 0] == palette(1)[0]).all()


def test_clear_labels_are_not_painted():
    out = blend(frames(), halves(), 0.5, 2, clear=(0, 255))
    assert (out[:, :, :15] == 100).all() and (out[:, :, 15:] != 100).any(-1).all()


@pytest.mark.parametrize("depth", [1, 2])
def test_outline_is_so_many_pixels_deep_on_both_sides(depth):
    plain, lined = blend(frames(1), halves(1), 0.5, 0), blend(frames(1), halves(1), 0.5, depth)
    columns = np.flatnonzero((plain != lined).any(-1)[0].any(0))
    assert columns.tolist() == list(range(15 - depth, 15 + depth))


def test_label_map_keeps_labels_as_values(tmp_path):
    labels = np.arange(256).reshape(16, 16)
    path = tmp_path / "maps" / "00000.png"
    write_label_map(path, labels)
    image = Image.open(path)
    assert image.mode == "P" and np.array_equal(np.asarray(image), labels)
    assert np.array_equal(np.asarray(image.convert("RGB")), palette()[labels])
    write_label_map(path, np.zeros((4, 5), bool))
    assert path.read_bytes()[24] == 8, "bits per pixel in the PNG header, even where few labels are used"
    assert [p.name for p in path.parent.iterdir()] == ["00000.png"]


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_written_video_reads_back_and_odd_sizes_are_padded(tmp_path, monkeypatch, codec):
    if codec == "mpeg4":
        monkeypatch.setattr(overlay, "_encoder", lambda: "mpeg4")
    path = tmp_path / "videos" / "clip.mp4"
    pictures = blend(frames(10, (21, 31)), halves(10, (21, 31)), 1.0, 0)
    with OverlayWriter(path, 30000 / 1001) as writer:
        writer.write(pictures[:4])
        writer.write(pictures[4:])
        assert not path.exists(), "no half-written video under the final name"
    reader = open_video(path, None, None)
    assert (reader.size, reader.length) == ((22, 32), 10)
    assert reader.fps == pytest.approx(30000 / 1001, rel=1e-3)
    for frame in reader:
        assert np.abs(frame[:20, 2:12].astype(int) - palette(1)[0]).mean() < 8, "colours survive"
    assert [p.name for p in path.parent.iterdir()] == ["clip.mp4"]


@pytest.mark.parametrize("written", [0, 2])
def test_interrupted_video_leaves_nothing(tmp_path, written):
    with pytest.raises(KeyError), OverlayWriter(tmp_path / "clip.mp4", 10) as writer:
        if written:
            writer.write(frames(written))
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_contact_sheet_has_a_row_per_view_and_evenly_spaced_columns():
    video, labels = frames(9), halves(9)
    options = {"columns": 4, "cell_px": 60, "opacity": 0.5, "outline": 1}
    two = contact_sheet(video, {"slots": labels}, **options)
    three = contact_sheet(
        video, {"slots": labels}, labels, **options, numbers=range(100, 109), title="a video"
    )
    assert two.dtype == np.uint8 and two.shape[1] == three.shape[1] > 4 * 60
    assert three.shape[0] - two.shape[0] >= 40, "one more row of tiles 40 high, and a title"
    one = contact_sheet(video[:1], {"slots": labels[:1]}, **options)
    assert 60 < one.shape[1] < 2 * 60 + 60


def test_slots_get_the_numbers_of_the_objects_that_they_are_assigned_to():
    """Slot 0 lies on object 2, slot 3 on object 1 and slot 1 on it less; slot 2 and the rest get others."""
    truth = np.zeros((2, 4, 8), np.uint8)
    truth[:, :, 2:4], truth[:, :, 4:6] = 1, 2
    labels = np.full((2, 4, 8), 2, np.uint8)
    labels[:, :, 2:4], labels[:, :3, 4:6], labels[:, 3:, 4:6], labels[:, 0, 0] = 3, 0, 1, 255
    found = like_truth(labels, truth)
    assert (found[labels == 3] == 1).all() and (found[labels == 0] == 2).all()
    assert (found[labels == 255] == 255).all()
    others = [set(found[labels == slot].tolist()) for slot in (1, 2)]
    assert [len(other) for other in others] == [1, 1] and not others[0] & others[1]
    assert not (others[0] | others[1]) & {1, 2, 255}


def test_one_slot_over_two_objects_has_the_colour_of_one_and_void_is_no_object():
    truth = np.zeros((1, 2, 6), np.uint8)
    truth[..., 1:3], truth[..., 3] = 1, 2
    found = like_truth(np.zeros((1, 2, 6), np.uint8), truth)
    assert set(np.unique(found)) == {1}
    nothing = like_truth(np.full((1, 2, 6), 4, np.uint8), np.full((1, 2, 6), 255, np.uint8))
    assert set(np.unique(nothing)) == {0}


def test_spaced():
    assert spaced(9, 3) == [0, 4, 8]
    assert spaced(2, 5) == [0, 1]
    assert spaced(1, 5) == [0]
    assert spaced(5, 1) == [0]


def test_write_picture(tmp_path):
    for name in ("a.png", "a.jpg"):
        write_picture(tmp_path / name, frames(1)[0])
        assert Image.open(tmp_path / name).size == (30, 20)


def test_void_is_the_void_of_the_contracts_and_costs_no_torch():
    from vocl.interface import VOID

    assert VOID == overlay.VOID
    loaded = "print(sorted({'torch', 'av', 'decord'} & {*sys.modules}))"
    script = f"import sys, vocl.commands.pictures.overlay; {loaded}"
    assert (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout.strip() == "[]"
    )
