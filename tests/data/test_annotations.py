"""Annotations: exact where they come from, and where the frames are after every change of them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from test_feed import SETTINGS, raw

from vocl.data.annotations import Placement, boxes_of, placed
from vocl.data.augment.crop import RandomResizedCrop
from vocl.data.feed import Feed, whole_video
from vocl.data.served import Served
from vocl.data.sources.files import FrameFolders
from vocl.data.sources.synthetic import Synthetic
from vocl.errors import UserError
from vocl.interface import Source

ALL = {"masks", "boxes", "flow", "depth"}


def sprites(level="medium", **changes):
    settings = {"seed": 0, "size_px": 48, "num_frames": 6, "num_train": 8, "num_dev": 1, "num_validation": 4}
    return Synthetic("train", None, level=level, **settings | changes)


# ------------------------------------------------------------------------------- of the synthetic source


def warped(frame, x, y):
    """`frame` h w c at the continuous places (x, y), bilinear."""
    grid = torch.stack([x / frame.shape[1] * 2 - 1, y / frame.shape[0] * 2 - 1], dim=-1)
    image = torch.from_numpy(frame.astype(np.float32)).permute(2, 0, 1)
    sample = partial(torch.nn.functional.grid_sample, align_corners=False, padding_mode="border")
    found = sample(image[None], grid[None])
    return found[0].permute(1, 2, 0)


@pytest.mark.parametrize("level", ["easy", "medium", "hard"])
def test_flow_leads_to_the_same_surface_in_the_next_frame(level):
    source = sprites(level)
    errors = {"flow": [], "no flow": []}
    for index in range(len(source)):
        video, scene = source[index], source.scene(index)
        frames = video.frames(range(6)) / scene.gain[:, None, None, None]
        found = video.annotations(["flow", "masks"], range(6))
        y, x = torch.meshgrid(torch.arange(48) + 0.5, torch.arange(48) + 0.5, indexing="ij")
        for t in range(5):
            flow = torch.from_numpy(found["flow"][t])
            for name, (dx, dy) in (("flow", flow), ("no flow", torch.zeros_like(flow))):
                to_x, to_y = x + dx, y + dy
                inside = (to_x > 1) & (to_x < 47) & (to_y > 1) & (to_y < 47)
                there = found["masks"][t + 1][to_y.clamp(0, 47).long(), to_x.clamp(0, 47).long()]
                same = torch.from_numpy(there == found["masks"][t]) & inside
                moving = same & (flow.norm(dim=0) > 0.7)
                change = (warped(frames[t + 1], to_x, to_y) - torch.from_numpy(frames[t])).abs().mean(-1)
                errors[name] += change[moving].tolist()
    assert np.median(errors["flow"]) < 2.5  # of 255; bilinear sampling of patterns is not exact
    assert np.mean(errors["flow"]) < 0.5 * np.mean(errors["no flow"])


def test_flow_of_the_last_frame_is_the_way_since_the_one_before():
    source, errors = sprites("medium"), []
    y, x = torch.meshgrid(torch.arange(48) + 0.5, torch.arange(48) + 0.5, indexing="ij")
    for index in range(len(source)):
        video = source[index]
        before, last = video.frames([4, 5])
        flow = torch.from_numpy(video.annotations(["flow"], [5])["flow"][0])
        came_x, came_y = ((at - way).clamp(0, 47).long() for at, way in zip((x, y), flow, strict=True))
        labels, labels_before = video.labels([5])[0], video.labels([4])[0]
        same = torch.from_numpy((labels == labels_before[came_y, came_x]) & (labels > 0))
        moving = (flow.norm(dim=0) > 0.7) & same
        change = (warped(before, x - flow[0], y - flow[1]) - torch.from_numpy(last)).abs().mean(-1)
        errors += change[moving].tolist()
    assert len(errors) > 500 and np.median(errors) < 2.5
    alone = sprites("easy", num_frames=1)[0].annotations(["flow"], [0])["flow"]
    assert np.abs(alone).max() < 1e-4


def test_boxes_and_depth_say_what_the_masks_say():
    source = sprites("hard")
    for index in range(4):
        video, scene = source[index], source.scene(index)
        found = video.annotations(["masks", "boxes", "depth"], [0, 3])
        for masks, boxes, depth in zip(found["masks"], found["boxes"], found["depth"], strict=True):
            assert boxes.shape == (len(scene.sprites), 5)
            for label, box in enumerate(boxes, start=1):
                rows, columns = np.nonzero(masks == label)
                expected = [0] * 5
                if len(rows):
                    expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1, 1]
                assert box.tolist() == expected
            for place, sprite in enumerate(reversed(scene.order), start=1):
                assert (depth[0][masks == sprite + 1] == place).all()
            assert (depth[0][masks == 0] == len(scene.order) + 1).all()


# ------------------------------------------------------------------------------------- where frames go

PLACEMENTS = {
    "as it is": Placement((0, 0, 48, 48), (48, 48), False, False),
    "stretched": Placement((0, 0, 48, 48), (24, 96), False, False),
    "cut": Placement((8, 4, 32, 40), (32, 40), False, False),
    "mirrored": Placement((0, 0, 48, 48), (48, 48), True, False),
    "all": Placement((8, 4, 32, 40), (64, 60), True, True),
}


@pytest.mark.parametrize("name", PLACEMENTS)
def test_boxes_follow_the_masks(name):
    at, labels = PLACEMENTS[name], np.zeros((2, 48, 48), np.uint8)
    labels[:, 10:20, 8:22], labels[1, 22:36, 30:42] = 1, 2
    masks = placed(labels, "labels", at)
    boxes = placed(boxes_of(labels, 2), "boxes", at)
    assert masks.shape == (2, *at.size_px) and masks.dtype == torch.uint8
    expected = torch.from_numpy(boxes_of(masks.numpy(), 2))
    assert (boxes[..., :4] - expected[..., :4]).abs().max() <= 0.5 and boxes[..., 4].sum() == 3
    assert torch.equal(boxes[..., 4], expected[..., 4])


@pytest.mark.parametrize("name", PLACEMENTS)
def test_vectors_lead_from_point_to_point(name):
    """The end of a vector goes where its place and its value go together."""
    at = PLACEMENTS[name]
    rows, columns = np.mgrid[8:40, 4:44].astype(np.float32) + 0.5
    start = np.stack([columns.ravel(), rows.ravel(), np.ones(rows.size, np.float32)], axis=-1)[None]
    vector = np.array([1.5, -0.75], np.float32)
    end = start + np.array([*vector, 0], np.float32) * (-1 if at.backwards else 1)
    flow = placed(np.broadcast_to(vector[:, None, None], (1, 2, 48, 48)), "vectors", at)
    moved = placed(end, "points", at)[..., :2] - placed(start, "points", at)[..., :2]
    torch.testing.assert_close(moved, flow[0, :, 0, 0].expand_as(moved), rtol=0, atol=1e-4)
    assert (flow == flow[:, :, :1, :1]).all()


def test_points_outside_of_what_is_seen_are_not_visible():
    points = np.array([[[3.5, 20, 1], [4.5, 20, 1], [43.9, 39.9, 1], [44.5, 20, 1], [10, 20, 0]]], np.float32)
    found = placed(points, "points", PLACEMENTS["cut"])
    assert found[0, :, 2].tolist() == [0, 1, 1, 0, 0]
    assert found[0, 1, :2].tolist() == [0.5, 12.0]
    mirrored = placed(points, "points", replace(PLACEMENTS["cut"], flipped=True))
    assert mirrored[0, 1, :2].tolist() == [39.5, 12.0] and mirrored[0, :, 2].tolist() == [0, 1, 1, 0, 0]


def test_a_box_is_cut_at_the_edge_and_vanishes_outside():
    boxes = np.array([[[0, 0, 10, 20, 1], [0, 0, 3, 3, 1], [5, 9, 9, 12, 0]]], np.float32)
    found = placed(boxes, "boxes", PLACEMENTS["cut"])[0]
    assert found.tolist() == [[0, 0, 6, 12, 1], [0] * 5, [0] * 5]


# --------------------------------------------------------------------------------------------- in clips


class Labelled(Source):
    """Video i has i + 1 objects, 8 px squares of 40 * label red, that move 4 px right a frame."""

    annotated: ClassVar = {"masks": "labels", "boxes": "boxes", "heat": "dense", "points": "points"}

    def __init__(self, num_videos=3):
        self.num_videos = num_videos

    def __len__(self):
        return self.num_videos

    def __getitem__(self, index):
        return LabelledVideo(index)

    def truth(self, name):
        return None


class LabelledVideo:
    length, size = 6, (32, 64)

    def __init__(self, index):
        self.name, self.count = f"video{index}", index + 1

    def labels(self, indices):
        out = np.zeros((len(indices), 32, 64), np.uint8)
        for t, i in enumerate(indices):
            for label in range(1, self.count + 1):
                out[t, 8 * label : 8 * label + 8, 8 + 4 * i : 16 + 4 * i] = label
        return out

    def frames(self, indices):
        frames = np.zeros((len(indices), 32, 64, 3), np.uint8)
        frames[..., 0] = 40 * self.labels(indices)
        return frames

    def annotations(self, names, indices):
        labels = self.labels(indices)
        made = {
            "masks": labels,
            "boxes": boxes_of(labels, self.count),
            "heat": labels[:, None].astype(np.float32),
            "points": np.array([[[8 + 4 * i, 8, 1]] for i in indices], np.float32),
        }
        return {name: made[name] for name in names}


CROP = partial(RandomResizedCrop, scale=[0.3, 0.6], aspect=[0.8, 2.0])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"flip": 1.0},
        {"flip": 0.5, "reverse": 0.5},
        {"fit": "crop", "size_px": [32, 32]},
        {"flip": 0.5, "reverse": 0.5, "augment": [CROP], "size_px": [48, 48]},
    ],
)
def test_annotations_are_where_the_frames_are(changes):
    settings = replace(SETTINGS, **{"size_px": [32, 64]} | changes)
    clip = Feed(Served(Labelled(), {"masks", "boxes", "heat", "video"}), settings, 0, 12, 3).batch(1)
    red = raw(clip.video)[:, :, 0] / 40
    assert ((red - clip.masks).abs() < 0.3).float().mean() > 0.93
    heat = clip.more["heat"]
    assert heat.shape == (*clip.masks.shape[:2], 1, *clip.masks.shape[2:]) and heat.dtype == torch.float32
    assert ((heat[:, :, 0] - red).abs() < 0.3).float().mean() > 0.93
    assert clip.boxes.shape == (12, 3, 3, 5)  # filled up to the most that a video of the batch has
    counts = {name: int(name[-1]) + 1 for name in clip.names}
    for name, boxes, masks in zip(clip.names, clip.boxes, clip.masks, strict=True):
        assert not boxes[:, counts[name] :].any()
        for t, o in zip(*torch.nonzero(boxes[..., 4], as_tuple=True), strict=True):
            left, top, right, bottom = (round(float(v)) for v in boxes[t, o, :4])
            if right - left > 1 and bottom - top > 1:
                assert (masks[t, top:bottom, left:right] == o + 1).float().mean() > 0.7


def test_only_what_is_read_is_filled():
    clip = Feed(Labelled(), replace(SETTINGS, size_px=[32, 64]), 0, 2, 3).batch(0)
    assert clip.masks is None and clip.boxes is None and not clip.more
    served = Served(Labelled(), {"points", "video"})
    clip = Feed(served, replace(SETTINGS, size_px=[32, 64]), 0, 2, 3).batch(0)
    assert clip.points.shape == (2, 3, 1, 3) and clip.masks is None
    assert torch.equal(clip.points[..., 0, 0].long(), 8 + 4 * clip.frames)


def test_whole_videos_bring_annotations_too():
    video = Served(Labelled(), {"boxes", "heat", "video"})[2]
    clip = whole_video(video, replace(SETTINGS, size_px=[16, 32]), 1, 4, seed=0)
    assert clip.boxes[0, 0].tolist() == [[6, 4 * o, 10, 4 * o + 4, 1] for o in (1, 2, 3)]
    assert clip.more["heat"].shape == (1, 3, 1, 16, 32)


def test_folders_give_masks_and_boxes_where_they_have_masks(tmp_path):
    for split, with_masks in (("train", True), ("bare", False)):
        folder = tmp_path / "own" / split / "v"
        (folder / "frames").mkdir(parents=True)
        for i in range(2):
            Image.new("RGB", (12, 8)).save(folder / "frames" / f"{i}.png")
        if with_masks:
            (folder / "masks").mkdir()
            for i in range(2):
                label = np.zeros((8, 12), np.uint8)
                label[2:5, 3 + i : 7] = 2
                label[0] = 255
                Image.fromarray(label).save(folder / "masks" / f"{i}.png")
    own = Served(FrameFolders("train", tmp_path, name="own"), {"masks", "boxes", "video"})
    found = Feed(own, SETTINGS, 0, 1, 2).batch(0)
    assert found.boxes[0].tolist() == [[[0] * 5, [3 + i, 2, 7, 5, 1]] for i in range(2)]
    assert set(found.masks.unique().tolist()) == {0, 2, 255}
    bare = Feed(Served(FrameFolders("bare", tmp_path, name="own"), {"masks", "video"}), SETTINGS, 0, 1, 2)
    with pytest.raises(UserError, match=r"videos have no masks.*annotations: none"):
        bare.check()
