"""Damaged datasets: each video whole or one line in its place, whatever layout it came in."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tfrecords
from alarm import ends_soon
from mutations import HANG_S, in_bytes, in_json, in_lines, numbers
from PIL import Image
from scipy.io import savemat
from small_sets import box, code, save_frames, save_labels, write_ytvis, ytvis

from vocl.data.convert.converter import Converter
from vocl.data.convert.davis import Davis2016, Davis2017
from vocl.data.convert.folders import Folders
from vocl.data.convert.masklets import SaV, SaVBenchmark, YouTubeVos
from vocl.data.convert.motion import Fbms, SegTrack
from vocl.data.convert.movi import Movi
from vocl.data.convert.parts import Jhmdb, Vip
from vocl.data.convert.ytvis import YouTubeVis
from vocl.data.images import Encoded, read_frame
from vocl.data.store.record import Record
from vocl.errors import UserError

COUNT = 10  # for each family
LENGTH = 3
LABELS = box(2, 3, 12, 14) * 1 + box(14, 20, 20, 30) * 2


def _labelled(frames: Path, masks: Path, name: str = "{:05d}") -> None:
    save_frames(frames, range(LENGTH), name + ".jpg")
    for number in range(LENGTH):
        save_labels(masks / f"{name.format(number)}.png", LABELS)


def folders(root: Path) -> Callable[[], Converter]:
    for video in "ab":
        _labelled(root / "train" / video / "frames", root / "train" / video / "masks")
    return lambda: Folders(root, binary=False, unmatched="refuse", min_frames=None, partial=False)


def movi(root: Path) -> Callable[[], Converter]:
    tfrecords.write_movi(root)
    published = {"train": 4, "validation": 1}
    lengths = {"train": ["2", "2"], "validation": ["1"]}
    splits = [{"name": name, "shardLengths": lengths[name]} for name in lengths]
    (root / "dataset_info.json").write_text(json.dumps({"splits": splits}))
    given: dict[str, Any] = {"name": "movi_e", "size": tfrecords.SIDE, "class_feature": "instances/category"}
    given |= {"class_names": ["thing"] * 17, "dense": ["flow", "backward_flow", "depth"]}
    return lambda: Movi(root, published=published, partial=False, **given)


def youtube_vis(root: Path) -> Callable[[], Converter]:
    write_ytvis(root, ytvis(2, length=LENGTH), "train.json", "train")
    parts = {"train": {"annotations": "train.json", "frames": "train"}}
    given: dict[str, Any] = {
        "parts": parts,
        "download": "it",
        "fps": None,
        "short_px": 12,
        "resize": "bicubic",
    }
    return lambda: YouTubeVis(root, quality=95, published={"train": 2}, partial=False, **given)


def davis2016(root: Path) -> Callable[[], Converter]:
    for video in "ab":
        _labelled(root / "JPEGImages/480p" / video, root / "Annotations/480p" / video)
    lists = root / "ImageSets/480p"
    lists.mkdir(parents=True)
    for name, video in (("train", "a"), ("val", "b")):
        (lists / f"{name}.txt").write_text(
            f"/JPEGImages/480p/{video}/00000.jpg /Annotations/480p/{video}/00000.png\n"
        )
    published = {"train": 1, "validation": 1}
    return lambda: Davis2016(root, resolution="480p", published=published, partial=False)


def davis2017(root: Path) -> Callable[[], Converter]:
    for video in "ab":
        _labelled(root / "JPEGImages/480p" / video, root / "Annotations/480p" / video)
    (root / "ImageSets/2017").mkdir(parents=True)
    for name, video in (("train", "a"), ("val", "b")):
        (root / f"ImageSets/2017/{name}.txt").write_text(f"{video}\n")
    given: dict[str, Any] = {"resolution": "480p", "annotations": "Annotations", "sparse": []}
    given |= {"lists": {"train": "2017/train.txt", "validation": "2017/val.txt"}}
    return lambda: Davis2017(root, published={"train": 1, "validation": 1}, partial=False, **given)


def sav(root: Path) -> Callable[[], Converter]:
    for video in "ab":
        save_frames(root / video, range(LENGTH))
        rows = [[code(box(2, 3, 12, 14)), code(box(8, 9, 20, 30))]] * LENGTH
        content = {"video_id": video, "masklet": rows, "masklet_id": [0, 1]}
        (root / f"{video}_manual.json").write_text(json.dumps(content))
    return lambda: SaV(root, masklets="manual", quality=95, published={"train": 2}, partial=False)


def sav_val(root: Path) -> Callable[[], Converter]:
    for video in "ab":
        save_frames(root / "JPEGImages_24fps" / video, range(4 * LENGTH))
        for t in range(0, 4 * LENGTH, 4):
            save_labels(root / f"Annotations_6fps/{video}/000/{t:05d}.png", LABELS)
    (root / "sav_val.txt").write_text("a\nb\n")
    return lambda: SaVBenchmark(root, split="val", published={"val": 2}, partial=False)


def youtube_vos(root: Path) -> Callable[[], Converter]:
    objects = {"1": {"category": "fox"}, "2": {"category": "boat"}}
    for video in "ab":
        _labelled(root / "train/JPEGImages" / video, root / "train/Annotations" / video)
    (root / "train/meta.json").write_text(json.dumps({"videos": {v: {"objects": objects} for v in "ab"}}))
    return lambda: YouTubeVos(root, splits=["train"], sparse=[], published={"train": 2}, partial=False)


def segtrack(root: Path) -> Callable[[], Converter]:
    for video in "ab":
        save_frames(root / "JPEGImages" / video, range(LENGTH), "{}.bmp")
        for number in range(LENGTH):
            for part in (1, 2):
                path = root / f"GroundTruth/{video}/{part}/{number}.bmp"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray((box(2, 3, 12, 14) * 255).astype(np.uint8)).save(path)
    return lambda: SegTrack(root, objects="separate", published={"test": 2}, partial=False)


def fbms(root: Path) -> Callable[[], Converter]:
    lines = [
        "Total number of regions:",
        "2",
        "",
        "Scale of region 0:",
        "0",
        "",
        "Scale of region 1:",
        "80",
        "",
    ]
    lines += [
        "Total number of frames in this shot:",
        str(LENGTH),
        "",
        "Total number of labeled frames for this shot:",
    ]
    lines += ["1", "", "Frame number:", "0", "File name:", "x_0_gt.pgm", "Input file name:", "x_0.ppm"]
    for split, video in (("Trainingset", "a"), ("Testset", "b")):
        save_frames(root / split / video, range(LENGTH), "x_{}.ppm")
        truth = root / split / video / "GroundTruth"
        truth.mkdir()
        Image.fromarray((box(2, 3, 12, 14) * 80).astype(np.uint8)).save(truth / "x_0_gt.pgm")
        (truth / "xDef.dat").write_text("\n".join(lines) + "\n")  # says how many frames there are
    return lambda: Fbms(root, objects="separate", published={"train": 1, "test": 1}, partial=False)


def jhmdb(root: Path) -> Callable[[], Converter]:
    (root / "splits").mkdir()
    (root / "splits/run_test_split1.txt").write_text("a.avi 1\nb.avi 2\n")
    for video in "ab":
        save_frames(root / "Rename_Images/run" / video, range(LENGTH), "{:05d}.png")
        (root / "joint_positions/run" / video).mkdir(parents=True)
        points = np.linspace(1, 20, 30 * LENGTH).reshape(2, 15, LENGTH)
        savemat(root / "joint_positions/run" / video / "joint_positions.mat", {"pos_img": points})
    return lambda: Jhmdb(root, split=1, published={"train": 1, "test": 1}, partial=False)


def vip(root: Path) -> Callable[[], Converter]:
    for video in "ab":
        _labelled(root / "Images" / video, root / "Annotations/Category_ids" / video)
    (root / "lists").mkdir()
    (root / "lists/train_videos.txt").write_text("a\n")
    (root / "lists/val_videos.txt").write_text("b\n")
    return lambda: Vip(root, published={"train": 1, "val": 1}, partial=False)


FAMILIES = [
    folders,
    movi,
    youtube_vis,
    davis2016,
    davis2017,
    sav,
    sav_val,
    youtube_vos,
    segtrack,
    fbms,
    jhmdb,
    vip,
]


def _damage(path: Path, seed: int) -> None:
    """One file changed, gone, empty, or something else than a file."""
    rng, content = random.Random(seed), path.read_bytes()
    kind = rng.randrange(12)
    if kind < 6:
        if path.suffix == ".json" and kind < 5:
            content = in_json(content, seed)
        elif path.suffix in (".txt", ".dat") and kind < 4:
            content = in_lines(content.decode(), seed)
        else:
            content = in_bytes(content, seed)
        path.write_bytes(content)
        return
    path.unlink()
    match kind:
        case 6:
            path.write_bytes(b"")
        case 7:
            path.mkdir()
        case 8:
            os.mkfifo(path)
        case 9:
            path.symlink_to(path.name)  # leads to itself
        case 10:
            path.symlink_to("/etc/passwd")


def _read(make: Callable[[], Converter]) -> list[Record | UserError]:
    try:
        converter = pickle.loads(pickle.dumps(make()))  # as it goes to other processes
        return [found for unit in converter.units() for found in converter.records(unit)]
    except UserError as error:
        return [error]


def _check(found: Record | UserError, name: str) -> None:
    """A record that is whole, or an error of one line."""
    if isinstance(found, UserError):
        assert str(found) and "\n" not in str(found)
        return
    # Frames of VIP that no mask belongs to may be taken away unnoticed.
    assert len(found.frames) == LENGTH or (name == "vip" and found.masks is not None), found.name
    for t, frame in enumerate(found.frames):
        assert read_frame(Encoded(frame, f"frame {t}")).ndim == 3
    if found.masks is not None:
        assert len(list(found.masks)) == len(found.frames)
    if found.objects is not None:
        assert found.objects.length == len(found.frames)
        found.objects.labels("paint")
    for dense in found.dense.values():
        assert len(dense.values) == len(found.frames)
    if found.points is not None:
        assert found.points.shape == (LENGTH, 15, 3)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_damaged_datasets_are_whole_or_one_line(
    family: Callable[[Path], Callable[[], Converter]], tmp_path: Path
) -> None:
    whole, root = tmp_path / "whole", tmp_path / "set"
    whole.mkdir()
    family(whole)
    root.mkdir()
    make = family(root)
    expected = _read(make)
    assert all(isinstance(found, Record) for found in expected), expected
    refused = 0
    for seed in numbers(COUNT):
        shutil.rmtree(root)
        shutil.copytree(whole, root)
        files = sorted(path for path in root.rglob("*") if path.is_file())
        target = random.Random(f"{family.__name__} {seed}").choice(files)
        _damage(target, seed)
        told = f"{family.__name__}, seed {seed}: {target.relative_to(root)}"
        with ends_soon(told, HANG_S):
            found = _read(make)
        for one in found:
            _check(one, family.__name__)
        errors = sum(isinstance(one, UserError) for one in found)
        assert errors or len(found) == len(expected), told
        refused += bool(errors)
    assert refused
