"""`vocl score`: masks of any method against the truth, from folders of PNG and from JSON."""

from __future__ import annotations

import copy
import json
import os
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from launch.cli import main
from vocl.errors import UserError
from vocl.evaluate.masks.json_forms import read_videos

SHARED = Path(os.environ.get("VOCL_SHARED") or Path(__file__).resolve().parents[3] / "shared") / "data"
FOREGROUND = {  # J and F of one method's masks, merged, by the official code
    "blackswan": (0.9431, 0.9746),
    "car-shadow": (0.9237, 0.9131),
    "kite-surf": (0.6017, 0.6672),
}


def maps(*frames: dict[int, slice], size=(8, 16)) -> np.ndarray:
    """Label maps t h w: label l fills the columns `frames[t][l]`."""
    out = np.zeros((len(frames), *size), np.uint8)
    for t, columns in enumerate(frames):
        for label, where in columns.items():
            out[t, :, where] = label
    return out


TRUE = maps({1: slice(0, 4), 2: slice(8, 12)}, {1: slice(0, 4), 2: slice(8, 12)})
FOUND = maps({5: slice(0, 2), 9: slice(8, 12)}, {5: slice(0, 2), 9: slice(8, 12)})  # half of 1, all of 2


def pngs(folder: Path, labels: np.ndarray, names: str = "{:05d}") -> Path:
    folder.mkdir(parents=True)
    for t, frame in enumerate(labels):
        image = Image.fromarray(frame).convert("P")
        image.putdata(frame.ravel().tolist())
        image.save(folder / f"{names.format(t)}.png")
    return folder


def codes(labels: np.ndarray, label: int) -> list[Any]:
    found = []
    for frame in labels:
        code = coco.encode(np.asfortranarray(frame == label, dtype=np.uint8))
        found.append({"size": list(code["size"]), "counts": code["counts"].decode()} if frame.any() else None)
    return found


def annotated(labels: np.ndarray) -> dict[str, Any]:
    """YouTube-VIS annotations."""
    height, width = labels.shape[1:]
    return {
        "videos": [{"id": 7, "height": height, "width": width, "length": len(labels)}],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [
            {"id": i, "video_id": 7, "category_id": 1, "iscrowd": 0, "segmentations": codes(labels, i)}
            for i in np.unique(labels[labels > 0]).tolist()
        ],
    }


def results(labels: np.ndarray) -> list[dict[str, Any]]:
    """YouTube-VIS results."""
    names = np.unique(labels[labels > 0]).tolist()
    return [{"video_id": 7, "score": 0.5, "category_id": 1, "segmentations": codes(labels, i)} for i in names]


def masklets(labels: np.ndarray) -> dict[str, Any]:
    """SA-V."""
    by_object = [codes(labels, i) for i in np.unique(labels[labels > 0]).tolist()]
    return {"video_id": "sav", "masklet": [list(frame) for frame in zip(*by_object, strict=True)]}


def framewise(labels: np.ndarray) -> dict[str, Any]:
    """Annotations of single frames."""
    height, width = labels.shape[1:]
    images = [
        {"id": t, "video_id": 1, "frame_id": t, "height": height, "width": width} for t in range(len(labels))
    ]
    found = [
        {
            "id": 10 * t + i,
            "image_id": t,
            "video_id": 1,
            "instance_id": i,
            "segmentation": codes(labels, i)[t],
        }
        for t in range(len(labels))
        for i in np.unique(labels[labels > 0]).tolist()
    ]
    return {"videos": [{"id": 1, "name": "clip"}], "images": images, "annotations": found}


def tracked(labels: np.ndarray) -> dict[str, Any]:
    """MMTracking."""
    names = np.unique(labels[labels > 0]).tolist()
    masks = [[[codes(labels, i)[t] for i in names]] for t in range(len(labels))]
    return {"track_masks": masks, "track_bboxes": [[[[i, 0, 0, 1, 1, 0.9] for i in names]]] * len(labels)}


FORMS = (annotated, results, masklets, framewise, tracked)


def written(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def scored(tmp_path: Path, truth: Path, labels: Path, *words: str, protocol: str = "vocl") -> dict[str, Any]:
    out = tmp_path / "out.json"
    assert main(["score", str(truth), str(labels), f"protocol={protocol}", f"out={out}", *words]) == 0
    return json.loads(out.read_text())


def test_a_folder_of_videos(tmp_path, capsys):
    pngs(tmp_path / "true" / "a", TRUE), pngs(tmp_path / "true" / "b", TRUE)
    pngs(tmp_path / "found" / "a", FOUND), pngs(tmp_path / "found" / "b", TRUE)
    pngs(tmp_path / "found" / "not asked for", TRUE)
    content = scored(tmp_path, tmp_path / "true", tmp_path / "found")
    assert [(row["video"], row["video_mbo"]) for row in content["rows"]] == [("a", 0.75), ("b", 1)]
    assert content["metrics"]["video_mbo"] == 0.875 and content["metrics"]["slot_switch_rate"] == 0
    assert content["metrics"]["reappearance"] is None
    assert content["protocol"]["name"] == "vocl" and content["protocol"]["overlap"] == "drop"
    said = capsys.readouterr().out
    assert "protocol vocl, 2 videos, 4 frames" in said and re.search(r"video_mbo +0\.8750\n", said)
    assert "note: undefined, as nothing counts in them: reappearance" in said


@pytest.mark.parametrize("true", FORMS)
@pytest.mark.parametrize("found", FORMS)
def test_every_form_as_truth_and_as_found(true, found, tmp_path):
    truth, labels = written(tmp_path / "t.json", true(TRUE)), written(tmp_path / "l.json", found(FOUND))
    assert scored(tmp_path, truth, labels)["metrics"]["video_mbo"] == 0.75
    folder = pngs(tmp_path / "png", FOUND)
    assert scored(tmp_path, truth, folder)["metrics"]["video_mbo"] == 0.75


def test_of_results_the_more_certain_has_a_point(tmp_path):
    truth = pngs(tmp_path / "true", TRUE)
    sure, wide = results(TRUE), results(maps(*[{1: slice(0, 16)}] * 2))[0]
    for score, expected in ((0.1, 1), (0.9, 0.25)):
        labels = written(tmp_path / "l.json", [{**wide, "score": score}, *sure])
        content = scored(tmp_path, truth, labels)
        assert content["metrics"]["video_mbo"] == expected
        assert (
            "128 points of several found objects: the more certain or later one has them" in content["notes"]
        )


def test_a_protocol_may_be_changed_and_names_what_it_drops(tmp_path):
    one, two = (codes(maps(*[{1: slice(a, a + 8)}] * 2), 1) for a in (0, 4))
    truth = written(
        tmp_path / "t.json", {"video_id": "v", "masklet": [list(f) for f in zip(one, two, strict=True)]}
    )
    labels = pngs(tmp_path / "found", TRUE)
    content = scored(tmp_path, truth, labels)
    assert "64 points of several objects: overlap=drop" in content["notes"]
    assert content["rows"][0]["num_contested_points"] == 64
    painted = scored(tmp_path, truth, labels, "protocol.overlap=paint")
    assert painted["protocol"]["overlap"] == "paint" and painted["metrics"] != content["metrics"]


def test_frames_are_paired_by_name_or_else_by_order(tmp_path):
    sparse = pngs(tmp_path / "sparse", TRUE[:1], "{:05d}")
    labels = pngs(tmp_path / "found", FOUND)
    content = scored(tmp_path, sparse, labels)
    assert content["rows"][0]["num_frames"] == 1
    assert "1 masks of sparse are of frames without a truth" in content["notes"]
    assert "sparse was scored against what is called found" in content["notes"][0]
    renamed = pngs(tmp_path / "renamed", FOUND, "frame{}")
    assert scored(tmp_path, labels, renamed)["metrics"]["video_mbo"] == 1


def test_masks_of_another_size_are_scored_at_a_size_of_the_protocol(tmp_path, capsys):
    truth, labels = (
        pngs(tmp_path / "t", TRUE),
        pngs(tmp_path / "l", np.kron(TRUE, np.ones((1, 2, 2), np.uint8))),
    )
    assert main(["score", str(truth), str(labels), "protocol=vocl"]) == 2
    assert "its masks have 32x16 pixels, the truth 16x8" in capsys.readouterr().err
    assert scored(tmp_path, truth, labels, "protocol.resolution=16")["metrics"]["video_mbo"] == 1


def test_a_conditional_protocol_says_that_masks_do_not_tell(tmp_path):
    truth = pngs(tmp_path / "t", TRUE)
    assert any("first-frame boxes" in n for n in scored(tmp_path, truth, truth, protocol="randsfq")["notes"])


def test_a_protocol_of_a_project(tmp_path):
    folder = tmp_path / "project" / "conf" / "eval" / "protocol"
    folder.mkdir(parents=True)
    (folder / "ours.yaml").write_text("defaults: [vocl, _self_]\nname: ours\nbackground: object\n")
    truth, labels = pngs(tmp_path / "t", TRUE), pngs(tmp_path / "l", FOUND)
    content = scored(tmp_path, truth, labels, f"project={tmp_path}/project", protocol="ours")
    # of three objects one is found by half, and the background by 8 of 10 columns
    assert content["metrics"]["video_mbo"] == pytest.approx((0.5 + 1 + 0.8) / 3)
    assert content["protocol"]["name"] == "ours"


@pytest.mark.parametrize("sequence", FOREGROUND)
def test_a_merged_foreground_has_the_official_j_and_f(sequence, tmp_path):
    truth = SHARED / "davis2016" / "Annotations" / "480p" / sequence
    labels = SHARED / "davis2017_results" / "osvos" / sequence
    if not truth.is_dir() or not labels.is_dir():
        pytest.skip(f"no masks of {sequence} in $VOCL_SHARED/data")
    content = scored(tmp_path, truth, labels, "binary=true", protocol="davis2017")
    found = [content["metrics"][name] for name in ("j_mean", "f_mean")]
    assert found == pytest.approx(FOREGROUND[sequence], abs=1e-4)


def test_masklets_at_hand(tmp_path):
    manual, auto = (SHARED / "sav" / f"sav_000001_{name}.json" for name in ("manual", "auto"))
    if not manual.is_file():
        pytest.skip("no masklets in $VOCL_SHARED/data")
    true, found = read_videos(manual)["sav_000001"], read_videos(auto)["sav_000001"]
    assert (true.length, len(true.objects), len(found.objects)) == (121, 5, 9)
    fixture = SHARED / "ytvis_fixture"
    content = scored(tmp_path, fixture / "ann.json", fixture / "results.json")
    assert 0.5 < content["metrics"]["video_mbo"] <= 1


def test_mistakes(tmp_path, capsys):
    true, empty = str(pngs(tmp_path / "true", TRUE)), tmp_path / "empty"
    empty.mkdir()
    binary = str(pngs(tmp_path / "binary", (TRUE > 0).astype(np.uint8) * 255))
    short = str(pngs(tmp_path / "short", TRUE[:1]))
    several = tmp_path / "several"
    pngs(several / "one", TRUE), pngs(several / "two", TRUE)
    damaged = written(tmp_path / "damaged.json", {}).parent / "cut.json"
    damaged.write_text('{"videos": [')
    cases = {
        (true, "nowhere", "protocol=vocl"): "nowhere: no such file or folder",
        (true, str(empty), "protocol=vocl"): "empty: holds no PNG, and no folder that does",
        (true, short, "protocol=vocl"): "short: no mask of frame 00001, which the truth has",
        (str(several), true, "protocol=vocl"): "true: no masks of video one, it has true",
        (true, str(damaged), "protocol=vocl"): "cut.json: is not JSON",
        (str(tmp_path / "damaged.json"), true, "protocol=vocl"): "damaged.json: is of no known form",
        (binary, true, "protocol=vocl"): "where 255 is the object, set binary=true",
        (true, true): "protocol: missing, give protocol=NAME of davis2017, interpreter",
        (true, true, "protocol=slov"): "choose from davis2017",
        (true, true, "protocol=vocl", "protocol.overlap=drip"): "choose from drop, paint, error",
        (true, true, "protocol=vocl", "protocol.background"): "protocol.background",
        (
            true,
            true,
            "protocol=videosaur_clips",
        ): "that protocol videosaur_clips counts in any of 1",
        (true, true, "protocol=vocl", "binary=1"): "binary=1: choose from true, false",
        (true, true, "protocol=vocl", "outt=x"): "outt: unknown key",
        (true, true, "protocol=vocl", f"out={true}"): "cannot write there",
        (true, "protocol=vocl"): "usage: vocl score TRUTH LABELS",
    }
    for words, said in cases.items():
        assert main(["score", *words]) == 2, words
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and said in error, (words, error)


def test_damaged_json_is_a_mistake_that_is_told(tmp_path):
    """Values of each form are replaced at random: it is read, or refused in one line."""
    chosen, odd = (
        random.Random(0),
        (None, [], {}, -1, 2**40, "x", [[3]], {"size": [2, 2], "counts": [5]}, 0.5),
    )
    refused = 0
    for form in FORMS:
        for _ in range(80):
            content = copy.deepcopy(form(TRUE))
            node, key = content, None
            while isinstance(node, dict | list) and node and (key is None or chosen.random() < 0.8):
                parent, key = node, chosen.choice(list(node) if isinstance(node, dict) else range(len(node)))
                node = parent[key]
            parent[key] = chosen.choice(odd)
            try:
                read_videos(written(tmp_path / "m.json", content))
            except UserError as error:
                assert "\n" not in str(error) and "m.json" in str(error)
                refused += 1
    assert refused > 100
