"""The synthetic source: what a video depends on, exactness of its masks, and the levels' promises."""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pytest

from vocl.data.sources import synthetic
from vocl.data.sources.scenes import draw_scene
from vocl.data.sources.sprites import LEVELS, Camera, Look, Rendering, Scene, Sprite, Texture, render
from vocl.data.sources.synthetic import Synthetic
from vocl.errors import UserError

NUM_SCENES = 48
SETTINGS = {
    "level": "easy",
    "seed": 0,
    "size_px": 48,
    "num_frames": 8,
    "num_train": 6,
    "num_dev": 4,
    "num_validation": NUM_SCENES,
}


def make(split: str = "validation", **changes: object) -> Synthetic:
    return Synthetic(split, None, **{**SETTINGS, **changes})


def everything(source: Synthetic, index: int) -> tuple[bytes, bytes]:
    video = source[index]
    return (video.frames(range(video.length)).tobytes(), video.labels(range(video.length)).tobytes())


@pytest.fixture(scope="module")
def hard() -> list[tuple[Scene, Rendering]]:
    source = make(level="hard")
    return [
        (draw_scene(LEVELS["hard"], f"0:validation:{i}", 8), source.rendering(i)) for i in range(NUM_SCENES)
    ]


def visible(rendering: Rendering) -> np.ndarray:
    """Pixels seen of each object, k t."""
    return np.stack([(rendering.labels == k + 1).sum((1, 2)) for k in range(len(rendering.extent))])


def test_shapes_types_and_names() -> None:
    source = make("train", size_px=40, num_frames=5)
    video = source[2]
    assert (len(source), video.name, video.length, video.size) == (6, "train/00002", 5, (40, 40))
    frames = video.frames([4, 0, 0])
    assert frames.shape == (3, 40, 40, 3) and frames.dtype == np.uint8
    np.testing.assert_array_equal(frames[1], frames[2])
    np.testing.assert_array_equal(frames[0], video.frames(range(5))[4])
    with pytest.raises(IndexError):
        source[6]
    assert len(list(source)) == 6


@pytest.mark.parametrize("level", LEVELS)
def test_a_video_depends_on_its_index_alone(level: str) -> None:
    first, second = make(level=level), make(level=level, num_validation=9, num_train=1000, num_dev=1)
    forward = [everything(first, i) for i in range(5)]
    backward = [everything(second, i) for i in reversed(range(5))]
    np.random.seed(3)  # the global generator has no part in it
    assert forward == backward[::-1]
    assert len(set(forward)) == 5


def test_splits_and_seeds_share_no_video() -> None:
    sources = [
        make(split, num_train=16, num_dev=16, num_validation=16) for split in ("train", "dev", "validation")
    ]
    sources.append(make("train", seed=1, num_train=16))
    videos = [everything(source, i) for source in sources for i in range(16)]
    assert len(set(videos)) == len(videos)


def test_size_scales_one_and_the_same_scene() -> None:
    small, large = make(level="hard"), make(level="hard", size_px=96)
    for i in range(4):
        agree = large[i].labels(range(8))[:, ::2, ::2] == small[i].labels(range(8))
        assert agree.mean() > 0.94


def test_videos_are_rendered_once_and_dropped_beyond_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    source = make()
    assert source.rendering(0) is source.rendering(0)
    monkeypatch.setattr(synthetic, "CACHE_BYTES", 3 * source.rendering(0).num_bytes)
    tight = make()
    kept = tight.rendering(0)
    assert [everything(tight, i) for i in range(10)] == [everything(source, i) for i in range(10)]
    assert tight.rendering(0) is not kept and tight.rendering(9) is tight.rendering(9)


def test_a_video_survives_the_way_to_a_worker() -> None:
    source = make()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as worker:
        frames = worker.submit(type(source[1]).frames, source[1], [0, 3]).result()
    np.testing.assert_array_equal(frames, source[1].frames([0, 3]))


def test_frames_given_out_are_the_readers_own() -> None:
    source = make()
    before = source[0].frames([0]).copy()
    source[0].frames([0])[:] = 0
    np.testing.assert_array_equal(source[0].frames([0]), before)


def test_truth_gives_the_labels_back() -> None:
    source = make(level="hard")
    for i in range(4):
        truth = source.truth(source[i].name)
        assert truth.size == (48, 48) and truth.length == 8
        labels, contested = truth.labels("error")
        assert contested == 0
        np.testing.assert_array_equal(labels, source[i].labels(range(8)))


@pytest.mark.parametrize("name", ["train/00000", "validation/00048", "validation/x", "00001"])
def test_unknown_video_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"{name}: no such video; choose from validation/00000 to .*00047"):
        make().truth(name)


def test_unknown_split_and_level_name_the_choices() -> None:
    with pytest.raises(UserError, match=r"'test'.*train, dev, validation"):
        make("test")
    with pytest.raises(UserError, match=r"dataset\.level: .*'harder'.*easy, medium, hard"):
        make(level="harder")


def test_a_disc_is_where_it_should_be() -> None:
    red = Texture("shade", np.array([[1.0, 0, 0], [1, 0, 0]]), np.ones((1, 2)), np.zeros(1))
    black = replace(red, colours=np.zeros((2, 3)))
    disc = Look("ellipse", 1.0, 10.0, np.zeros((3, 2)), red)
    centre = np.array([[20.3, 30.2], [50.0, 24.0], [90.0, 24.0]])  # inside, cut by the edge, outside
    sprite = Sprite(disc, centre, np.zeros(3), np.ones(3))
    still = Camera(np.zeros((3, 2)), np.zeros(3), np.ones(3))
    made = render(Scene((sprite,), (0,), black, 0.5, still, np.ones(3)), 48)
    y, x = np.mgrid[:48, :48] + 0.5
    depth = np.stack([10 - np.hypot(x - cx, y - cy) for cx, cy in centre])
    np.testing.assert_array_equal(made.labels, depth > 0)
    np.testing.assert_array_equal(made.extent[0], (depth > 0).sum((1, 2)))
    np.testing.assert_allclose(made.frames[..., 0], 255 * np.clip(depth + 0.5, 0, 1), atol=1)
    assert made.frames[..., 1:].max() == 0


def test_masks_are_those_of_the_colours() -> None:
    flat = replace(LEVELS["easy"], contrast=0.0, background_contrast=0.0)
    for i in range(8):
        scene = draw_scene(flat, f"0:validation:{i}", 8)
        made = render(scene, 48)
        colours = [t.colours[0] for t in (scene.background, *(s.look.texture for s in scene.sprites))]
        palette = np.rint(255 * np.array(colours))
        gaps = np.linalg.norm(made.frames[..., None, :] - palette, axis=-1)
        nearest, distance = gaps.argmin(-1), gaps.min(-1)
        pure = distance < 1
        np.testing.assert_array_equal(nearest[pure], made.labels[pure])
        assert pure.mean() > 0.8 and (nearest == made.labels).mean() > 0.99
        np.testing.assert_array_equal(made.labels, make()[i].labels(range(8)))  # whatever the texture


def test_labels_are_identities() -> None:
    source = make()
    for i in range(NUM_SCENES):
        frames, labels = source[i].frames(range(8)).astype(float), source[i].labels(range(8))
        for label in range(1, int(labels.max()) + 1):
            means = [
                frame[mask].mean(0)
                for frame, mask in zip(frames, labels == label, strict=True)
                if mask.sum() > 40
            ]
            assert np.ptp(means, axis=0).max() < 45  # the same colour in all frames; hues are far apart


@pytest.mark.parametrize(
    ("level", "low", "high"), [("easy", 0.25, 0.45), ("medium", 0.2, 0.45), ("hard", 0.15, 0.45)]
)
def test_number_of_objects_and_foreground_share(level: str, low: float, high: float) -> None:
    source = make(level=level)
    made = [source.rendering(i) for i in range(NUM_SCENES)]
    fewest, most = LEVELS[level].num_objects
    assert {len(r.extent) for r in made} == set(range(fewest, most + 1))
    assert low < np.mean([(r.labels > 0).mean() for r in made]) < high


def test_easy_objects_stay_and_the_camera_stands_still() -> None:
    source = make()
    for i in range(NUM_SCENES):
        made, scene = source.rendering(i), draw_scene(LEVELS["easy"], f"0:validation:{i}", 8)
        assert scene.camera.still and np.ptp(scene.gain) == 0
        assert (made.extent > 0.35 * made.extent.max(1, keepdims=True)).all()
        for sprite in scene.sprites:
            assert np.hypot(*np.diff(sprite.centre, axis=0).T).max() <= 3.0 + 1e-9


def test_hard_scenes_have_twins(hard: list[tuple[Scene, Rendering]]) -> None:
    for scene, _ in hard:
        looks = [id(sprite.look) for sprite in scene.sprites]
        assert len(looks) - len(set(looks)) == 1


def test_hard_scenes_have_full_occlusions(hard: list[tuple[Scene, Rendering]]) -> None:
    """Half of the scenes hide an object in view for 3 frames in a row; most show it before and after."""
    hidden, returned = 0, 0
    for _, made in hard:
        seen = visible(made)
        gone = (seen == 0) & (made.extent > 20)
        runs = gone[:, :-2] & gone[:, 1:-1] & gone[:, 2:]
        hidden += bool((runs.any(1) & seen.any(1)).any())
        returned += any(
            run.any() and s[: run.argmax()].any() and s[run.argmax() :].any()
            for run, s in zip(runs, seen, strict=True)
        )
    assert hidden / NUM_SCENES > 0.45 and returned / NUM_SCENES > 0.35


def test_hard_objects_enter_leave_and_return(hard: list[tuple[Scene, Rendering]]) -> None:
    extents = [made.extent for _, made in hard]
    enter = np.mean([((e[:, 0] == 0) & (e[:, -1] > 20)).any() for e in extents])
    leave = np.mean([((e[:, 0] > 20) & (e[:, -1] == 0)).any() for e in extents])
    back = np.mean([((e[:, 0] > 20) & (e[:, -1] > 20) & (e == 0).any(1)).any() for e in extents])
    assert min(enter, leave, back) > 0.15


def test_hard_camera_and_brightness_change(hard: list[tuple[Scene, Rendering]]) -> None:
    alike = []
    for scene, made in hard:
        assert all(np.ptp(a) > 0 for a in (scene.camera.pan, scene.camera.roll, scene.camera.zoom))
        assert 0.19 < np.ptp(scene.gain) < 0.41
        bare = (made.labels[0] == 0) & (made.labels[-1] == 0)
        alike.append(np.corrcoef(made.frames[0][bare].ravel(), made.frames[-1][bare].ravel())[0, 1])
    assert np.median(alike) < 0.8  # a gain alone would leave it at 1


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("num_frames", [1, 2, 5])
def test_short_videos(level: str, num_frames: int) -> None:
    source = make(level=level, num_frames=num_frames, size_px=16)
    for i in range(8):
        assert source[i].frames(range(num_frames)).shape == (num_frames, 16, 16, 3)


# Of videos 0 to 3 of each level: pixels of each label over the video, and the mean colour.
GOLDEN: dict[str, list[tuple[list[int], tuple[float, float, float]]]] = {
    "easy": [
        ([13513, 1807, 1524, 1588], (93.1, 100.4, 94.8)),
        ([15638, 1312, 1482], (136.0, 131.9, 136.8)),
        ([12706, 1402, 2567, 1757], (128.0, 123.9, 140.6)),
        ([13337, 2952, 2143], (117.0, 121.4, 122.8)),
    ],
    "medium": [
        ([12176, 1258, 627, 1092, 1421, 1858], (76.8, 99.4, 165.8)),
        ([14050, 1522, 1279, 1581], (160.5, 82.7, 189.9)),
        ([12141, 1708, 1308, 1679, 1596], (120.6, 86.4, 95.2)),
        ([14212, 951, 2374, 895], (69.6, 112.9, 103.9)),
    ],
    "hard": [
        ([12068, 157, 489, 435, 330, 1453, 3119, 255, 126], (91.6, 93.4, 154.5)),
        ([15161, 2759, 122, 390], (102.9, 101.5, 122.8)),
        ([13660, 528, 628, 707, 2035, 241, 633], (101.8, 59.8, 106.6)),
        ([14502, 894, 594, 626, 1816], (100.4, 163.0, 150.7)),
    ],
}


@pytest.mark.parametrize("level", LEVELS)
def test_golden_values(level: str) -> None:
    source = make(level=level)
    for i, (counts, colour) in enumerate(GOLDEN[level]):
        assert np.bincount(source[i].labels(range(8)).ravel()).tolist() == counts
        np.testing.assert_allclose(source[i].frames(range(8)).mean((0, 1, 2)), colour, atol=2)


def test_rendering_is_fast_enough_to_be_done_on_the_fly() -> None:
    source = make()
    begin = time.process_time()
    for i in range(NUM_SCENES):
        source.rendering(i)
    assert (time.process_time() - begin) / NUM_SCENES < 0.02  # about 0.0015 s on an ordinary core
