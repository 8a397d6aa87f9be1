"""A small dataset of each family that converters read, with its converter."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tfrecords
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
    write_ytvis(root, ytvis(2, length=LENGTH), "train.json", "train/JPEGImages")
    parts = {"train": {"annotations": "train.json", "frames": "train/JPEGImages"}}
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


FAMILIES = {  # by the name in conf/prepare, with what else the command is told
    "folders": (folders, []),
    "movi_e_128": (movi, [f"convert.size={tfrecords.SIDE}"]),
    "ytvis2019": (youtube_vis, []),
    "davis2016": (davis2016, []),
    "davis2017": (davis2017, []),
    "sav": (sav, []),
    "sav_val": (sav_val, []),
    "ytvos2018": (youtube_vos, []),
    "segtrack_v2": (segtrack, ["convert.objects=separate"]),
    "fbms59": (fbms, ["convert.objects=separate"]),
    "jhmdb": (jhmdb, []),
    "vip": (vip, []),
}
