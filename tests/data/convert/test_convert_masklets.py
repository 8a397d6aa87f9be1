"""SA-V and YouTube-VOS: objects that overlap, appear late and vanish come back exactly."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco
from small_sets import SIZE, box, code, picture, save_frames, save_labels

from vocl.data.convert.masklets import SaV, SaVBenchmark, YouTubeVos
from vocl.data.reader import open_video
from vocl.data.store.record import Record
from vocl.errors import UserError

SHARED = Path(os.environ.get("VOCL_SHARED", Path(__file__).parents[3] / "../shared")) / "data"
FILM = (48, 64)


def convert(converter: Any) -> dict[str, Record | UserError]:
    return {unit.name: found for unit in converter.units() for found in converter.records(unit)}


def sav(source: Path, **more: Any) -> dict[str, Record | UserError]:
    given: dict[str, Any] = {"masklets": "manual", "quality": 95, "published": None, "partial": False}
    return convert(SaV(source, **(given | more)))


def film(path: Path, length: int, size: tuple[int, int] = FILM) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = size[1], size[0], "yuv420p"
        for number in range(length):
            container.mux(stream.encode(av.VideoFrame.from_image(picture(number, size))))
        container.mux(stream.encode())


def masklets(size: tuple[int, int] = FILM) -> dict[str, Any]:
    """Three annotated frames of two objects; the second is hidden in the first."""
    one, two = box(5, 5, 20, 30, size), box(10, 20, 40, 60, size)
    rows = [[code(one), code(np.zeros(size, bool))], [code(one), code(two)], [code(one), code(two)]]
    return {"video_id": "sav_000001", "masklet": rows, "masklet_id": [0, 1], "masklet_num": 2}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "sav_000"
    folder.mkdir()
    film(folder / "sav_000001.mp4", 10)
    (folder / "sav_000001_manual.json").write_text(json.dumps(masklets()))
    return tmp_path


def rewrite(source: Path, **change: Any) -> None:
    path = source / "sav_000/sav_000001_manual.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


def test_annotated_frames_of_a_film_are_kept_with_their_masks(source):
    record = sav(source)["sav_000001"]
    assert len(record.frames) == 3 and record.fps == 6.0 and record.more == {"masklet_id": [0, 1]}
    film_frames = list(open_video(source / "sav_000/sav_000001.mp4", None, None))
    for kept, frame in zip(record.frames, film_frames[::4], strict=True):
        difference = np.asarray(Image.open(io.BytesIO(kept))).astype(int) - frame
        assert np.abs(difference).mean() < 3
    first, second = record.objects.objects
    assert second[0] is None and np.array_equal(coco.decode(second[1]), box(10, 20, 40, 60, FILM))
    assert np.array_equal(coco.decode(first[2]), box(5, 5, 20, 30, FILM))


@pytest.mark.parametrize("length", [3, 9, 12])
def test_a_folder_of_pictures_stands_for_the_film(source, length):
    (source / "sav_000/sav_000001.mp4").unlink()
    save_frames(source / "sav_000/sav_000001", range(length), size=FILM)
    record = sav(source)["sav_000001"]
    wanted = range(length)[:: 1 if length == 3 else 4]
    assert list(record.frames) == [(source / f"sav_000/sav_000001/{t:05d}.jpg").read_bytes() for t in wanted]


def test_films_that_do_not_fit_are_told(source):
    path = source / "sav_000/sav_000001.mp4"
    film(path, 13)
    assert "13 frames; 3 are annotated, one of 4" in str(sav(source)["sav_000001"])
    film(path, 10, (64, 64))
    assert "frame 0, object 0: has size [48, 64]" in str(sav(source)["sav_000001"])
    path.write_bytes(path.read_bytes()[:-300])
    assert isinstance(sav(source)["sav_000001"], UserError)
    path.unlink()
    assert "sav_000001.mp4: no such file" in str(sav(source)["sav_000001"])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"masklet": None}, "its masklet is None"),
        ({"masklet": [1, 2, 3]}, "not a list of codes"),
        ({"masklet": []}, "its masklet is []"),
        ({"masklet": [[None], [None, None], [None]]}, "frame 1 has 2 objects, the first has 1"),
        ({"masklet": [[7], [None], [None]]}, "frame 0, object 0: is no run-length code"),
    ],
)
def test_wrong_annotations_are_told_in_their_place(source, change, told):
    rewrite(source, **change)
    error = sav(source)["sav_000001"]
    assert isinstance(error, UserError) and told in str(error)


def test_what_is_missing_is_told(source, tmp_path):
    with pytest.raises(UserError, match=r"holds no <video>_auto\.json; download SA-V from https"):
        sav(source, masklets="auto")
    with pytest.raises(UserError, match="train: 1 videos, published are 50583"):
        sav(source, published={"train": 50583})


def test_masklets_of_a_real_video_are_kept_pixel_for_pixel(tmp_path):
    real = SHARED / "sav/sav_000001_manual.json"
    if not real.is_file():
        pytest.skip("needs shared/data/sav")
    content = json.loads(real.read_text())
    size = (int(content["video_height"]), int(content["video_width"]))
    (tmp_path / real.name).write_bytes(real.read_bytes())
    folder = tmp_path / "sav_000001"
    folder.mkdir()
    Image.new("RGB", size[::-1]).save(folder / "0.png")
    for number in range(1, 121):
        (folder / f"{number}.png").write_bytes((folder / "0.png").read_bytes())
    record = sav(tmp_path)["sav_000001"]
    assert record.objects.length == 121 and len(record.objects.objects) == 5
    areas = [[0 if c is None else int(coco.area(c)) for c in codes] for codes in record.objects.objects]
    for number, codes in enumerate(areas):
        seen = [area for area in codes if area]
        assert np.mean(seen) == pytest.approx(content["masklet_size_abs"][number], rel=1e-9)
    codes = content["masklet"]
    assert all(
        np.array_equal(coco.decode(codes[t][o]), coco.decode(code))
        for o, one in enumerate(record.objects.objects)
        for t, code in enumerate(one)
        if code is not None
    )
    # A film of 483 frames has 121 of which one of four is annotated, as this one has.
    assert (483 + 3) // 4 == 121 == len(codes)


def benchmark(root: Path) -> None:
    save_frames(root / "JPEGImages_24fps/sav_7", range(9))
    for number, first in (("000", 0), ("001", 4)):
        for t in range(first, 9, 4):
            path = root / f"Annotations_6fps/sav_7/{number}/{t:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(box(2, 3, 12, 14 + t).astype(np.uint8) * 255).save(path)
    (root / "sav_val.txt").write_text("sav_7\n")


def test_sav_val_keeps_annotated_frames_and_objects_that_overlap(tmp_path):
    benchmark(tmp_path)
    converter = SaVBenchmark(tmp_path, split="val", published={"val": 1}, partial=False)
    record = convert(converter)["sav_7"]
    assert list(record.frames) == [
        (tmp_path / f"JPEGImages_24fps/sav_7/{t:05d}.jpg").read_bytes() for t in (0, 4, 8)
    ]
    first, second = record.objects.objects
    assert second[0] is None and np.array_equal(coco.decode(second[1]), box(2, 3, 12, 18))
    assert np.array_equal(coco.decode(first[2]), box(2, 3, 12, 22))
    save_labels(tmp_path / "Annotations_6fps/sav_7/001/00004.png", np.zeros((8, 8)))
    assert "00004.png: 8x8 pixels" in str(convert(converter)["sav_7"])
    save_labels(tmp_path / "Annotations_6fps/sav_7/001/00007.png", np.zeros(SIZE))
    assert "00007.png: there is no frame of that name" in str(convert(converter)["sav_7"])
    (tmp_path / "JPEGImages_24fps/sav_7/00004.jpg").unlink()
    assert "its 8 frames are not numbered from 0 without a gap" in str(convert(converter)["sav_7"])
    with pytest.raises(UserError, match=r"sav_test\.txt: no such file"):
        SaVBenchmark(tmp_path, split="test", published=None, partial=False)
    (tmp_path / "sav_val.txt").write_text("sav_7\n../../etc\n")
    with pytest.raises(UserError, match=r"1 of 2 videos are not in"):
        SaVBenchmark(tmp_path, split="val", published=None, partial=False)


def vos(root: Path) -> None:
    late = np.zeros(SIZE, np.uint8)
    late[box(10, 10, 20, 20)] = 2
    for split in ("train", "valid"):
        save_frames(root / split / "JPEGImages/abc", (0, 5, 10))
        for t in (0, 5, 10) if split == "train" else (0, 5):
            labels = box(2, 3, 9, 12).astype(np.uint8) + (late if t else 0)
            save_labels(root / split / f"Annotations/abc/{t:05d}.png", labels)
    objects = {"1": {"category": "fox", "frames": ["00000"]}, "2": {"category": "boat"}}
    (root / "train/meta.json").write_text(json.dumps({"videos": {"abc": {"objects": objects}}}))


def youtube_vos(source: Path, **more: Any) -> dict[str, Record | UserError]:
    given: dict[str, Any] = {"splits": ["train", "valid", "test"], "sparse": ["valid", "test"]}
    return convert(YouTubeVos(source, **(given | {"published": None, "partial": False} | more)))


def test_youtube_vos_has_objects_that_start_late_and_first_appearances(tmp_path):
    vos(tmp_path)
    found = youtube_vos(tmp_path)
    assert list(found) == ["train-abc", "valid-abc"]
    record = found["train-abc"]
    assert record.classes == ["fox", "boat"] and record.split == "train"
    assert [np.unique(mask).tolist() for mask in record.masks] == [[0, 1], [0, 1, 2], [0, 1, 2]]
    assert [mask is None for mask in found["valid-abc"].masks] == [False, False, True]
    assert found["valid-abc"].classes is None


@pytest.mark.parametrize(
    ("meta", "told"),
    [
        ({"videos": {"abc": {"objects": {"1": {"category": "fox"}}}}}, "names no object 2 of video abc"),
        ({"videos": {}}, None),
        ({"videos": {"other": {"objects": {}}}}, "has no video abc"),
    ],
)
def test_other_objects_than_in_meta_are_told(tmp_path, meta, told):
    vos(tmp_path)
    (tmp_path / "train/meta.json").write_text(json.dumps(meta))
    found = youtube_vos(tmp_path)["train-abc"]
    assert isinstance(found, Record) if told is None else told in str(found)


@pytest.mark.parametrize(
    "meta", [{"videos": 7}, {"videos": {"abc": 1}}, {"videos": {"abc": {"objects": {"x": 1}}}}, {}]
)
def test_a_wrong_meta_is_refused(tmp_path, meta):
    vos(tmp_path)
    (tmp_path / "train/meta.json").write_text(json.dumps(meta))
    with pytest.raises(UserError, match=r"train/meta\.json"):
        youtube_vos(tmp_path)


def test_missing_masks_and_folders_of_youtube_vos_are_told(tmp_path):
    with pytest.raises(UserError, match=r"JPEGImages: no such folder; download YouTube-VOS from https"):
        youtube_vos(tmp_path)
    vos(tmp_path)
    (tmp_path / "train/Annotations/abc/00005.png").unlink()
    save_labels(tmp_path / "valid/Annotations/abc/00007.png", np.zeros(SIZE))
    found = youtube_vos(tmp_path)
    assert "1 of 3 frames have no mask, such as 00005.jpg" in str(found["train-abc"])
    assert "there is no frame of that name" in str(found["valid-abc"])
    with pytest.raises(UserError, match="train: 1 videos, published are 3471"):
        youtube_vos(tmp_path, published={"train": 3471, "test": 508})
