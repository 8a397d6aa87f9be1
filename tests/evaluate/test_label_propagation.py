"""Label propagation as an evaluation, on made-up videos in the structure of DAVIS, JHMDB and VIP."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from made_up import MadeUp, Videos, labels_of, squares, subject_of
from torch import Tensor

from vocl.data.truth import Keypoints, Truth
from vocl.errors import UserError
from vocl.evaluate.labels import Frame, KeypointLabels, MaskLabels, PartLabels
from vocl.evaluate.propagation import LabelPropagation
from vocl.interface import Backbone, Clip, Grid, VideoModel
from vocl.metrics.points import correct_keypoints, pck
from vocl.ops.propagation import Rule

RULE = Rule(
    name="plain",
    previous=3,
    topk=1,
    temperature=0.1,
    ties=False,
    window="square",
    reach=100,
    first_windowed=False,
    before="first",
    short_px="dataset",
    multiple_px=1,
    stride_px=None,
    reduce="nearest",
    enlarge="truth",
    stretch=False,
    given_first=True,
)
MOVING = squares([(0, 4), (4, 4), (8, 8), (8, 12)], [(12, 20), (12, 20), (12, 24), (8, 24)])


class Shows(VideoModel):
    """A bare backbone: its features say the labels that a square patch shows. Records what it saw."""

    any_size = frozenset({"embed"})

    def __init__(self, patch: int = 1, any_size: bool = True) -> None:
        super().__init__()
        self.patch, self.seen = patch, []
        self.backbone = Backbone()
        self.backbone.any_size = any_size

    def embed(self, clip: Clip) -> Tensor:
        self.seen.append(tuple(clip.video.shape[1:]))
        one_hot = F.one_hot(labels_of(clip.video), 25).float()
        sides = {"p": self.patch, "q": self.patch}
        return rearrange(one_hot, "b t (r p) (s q) e -> b t (r s) (p q) e", **sides).mean(3)


def evaluation(labels=MaskLabels, window: int = 8, max_videos=None, **changes) -> LabelPropagation:
    rule = functools.partial(dataclasses.replace, RULE, **changes)
    return LabelPropagation(
        split="validation", max_videos=max_videos, window=window, rule=rule, labels=labels
    )


def test_features_that_say_the_label_carry_it_through_the_video():
    videos = Videos([MadeUp("b", MOVING), MadeUp("a", MOVING[:, ::-1].copy())])
    report = evaluation().run(subject_of(Shows(), videos))
    assert [row["video"] for row in report.rows] == ["a", "b"]
    assert all(row["num_objects"] == 2 and row["num_frames"] == 2 for row in report.rows)
    metrics = report.metrics
    assert metrics["propagation_j_recall"] == metrics["propagation_f_mean"] == 1
    assert metrics["propagation_j_mean"] == metrics["propagation_jf"] == 1
    assert metrics["propagation_j_decay"] == metrics["num_without_truth"] == 0
    assert report.protocol == "plain"
    assert report.measures["propagation_j_decay"].higher_is_better is False


@pytest.mark.parametrize("window", [1, 3, 100])
def test_frames_are_embedded_a_few_at_a_time(window):
    model = Shows()
    report = evaluation(window=window).run(subject_of(model, Videos([MadeUp("v", MOVING)])))
    assert [shape[0] for shape in model.seen] == [min(window, 4 - i) for i in range(0, 4, window)]
    assert report.metrics["propagation_jf"] == 1


def test_a_label_that_is_lost_costs_only_where_it_is_scored():
    """The second object becomes another thing in the last frame, then in the last but one too."""
    shown = MOVING.copy()
    for first_wrong, expected in ((3, 1.0), (2, 0.75)):
        shown[first_wrong:][shown[first_wrong:] == 2] = 0
        videos = Videos([MadeUp("v", shown)], {"v": Truth.from_labels(MOVING)})
        report = evaluation().run(subject_of(Shows(), videos))
        assert report.metrics["propagation_j_mean"] == expected


def test_sizes_and_grids_follow_the_rule():
    model = Shows(patch=4)
    large = np.kron(MOVING, np.ones((1, 4, 4), np.uint8))  # 96 x 128
    videos = Videos([MadeUp("v", large)])
    for changes, shape in (
        ({"short_px": "dataset"}, (24, 32)),
        ({"short_px": "native", "multiple_px": 20}, (80, 120)),
        ({"short_px": 48, "multiple_px": 12}, (48, 60)),
        ({"short_px": "native", "multiple_px": 4, "stride_px": 8}, (96, 128)),
    ):
        report = evaluation(**changes).run(subject_of(model, videos))
        assert model.seen[-1][-2:] == shape
        assert report.metrics["propagation_j_mean"] > 0.8, changes


def test_a_model_that_takes_one_size_alone_says_so():
    videos = Videos([MadeUp("v", np.kron(MOVING, np.ones((1, 2, 2), np.uint8)))])
    with pytest.raises(UserError, match=r"frames of 48 x 64 px, .* choose rule\.short_px=dataset"):
        evaluation(short_px="native").run(subject_of(Shows(any_size=False), videos))
    evaluation(short_px="dataset").run(subject_of(Shows(any_size=False), videos))


def test_videos_without_a_truth_are_counted_and_too_short_ones_say_nothing():
    videos = [MadeUp("a", MOVING), MadeUp("b", MOVING[:2]), MadeUp("c", MOVING), MadeUp("d", MOVING * 0)]
    truths = {video.name: Truth.from_labels(video.labels) for video in videos if video.name != "c"}
    report = evaluation().run(subject_of(Shows(), Videos(videos, truths)))
    assert report.metrics["propagation_jf"] == 1 and report.metrics["num_without_truth"] == 1
    assert [row["num_objects"] for row in report.rows] == [2, 0, 0]
    assert np.isnan(report.rows[1]["propagation_jf"])
    first = evaluation(max_videos=1).run(subject_of(Shows(), Videos(videos, truths)))
    assert [row["video"] for row in first.rows] == ["a"]
    with pytest.raises(UserError, match="no video of split 'validation' has a truth"):
        evaluation().run(subject_of(Shows(), Videos(videos, {})))


def test_a_truth_of_another_kind_is_refused():
    points = Keypoints((24, 32), np.zeros((4, 2, 3)))
    with pytest.raises(UserError, match="the truth of v is Keypoints; this evaluation needs Truth"):
        evaluation().run(subject_of(Shows(), Videos([MadeUp("v", MOVING)], {"v": points})))


# ------------------------------------------------------------------------------------------ parts


def test_parts_have_one_confusion_matrix_over_all_videos():
    """Classes 1 and 3 in one video, 1 and 2 in another; 2 is lost in its last two frames of four."""
    first, second = np.where(MOVING == 2, 3, MOVING), MOVING.copy()
    shown = second.copy()
    shown[2:][shown[2:] == 2] = 0
    videos = [MadeUp("a", first), MadeUp("b", shown)]
    truths = {"a": Truth.from_labels(first), "b": Truth.from_labels(second)}
    labels = functools.partial(PartLabels, num_classes=7)
    report = evaluation(labels).run(subject_of(Shows(), Videos(videos, truths)))
    background = sum(int((labels == 0).sum()) for labels in (first, second))
    iou = [background / (background + 2 * 64), 1, 0.5, 1]
    assert report.metrics["propagation_miou"] == pytest.approx(np.mean(iou))
    assert report.rows[0]["propagation_miou"] == 1 and report.rows[0]["num_frames"] == 4


def test_more_classes_than_the_evaluation_knows_are_refused():
    labels = functools.partial(PartLabels, num_classes=2)
    with pytest.raises(UserError, match=r"labels.num_classes=2: the truth has class 2"):
        evaluation(labels).run(subject_of(Shows(), Videos([MadeUp("v", MOVING)])))


# ------------------------------------------------------------------------------------------ points


KEYPOINTS = functools.partial(KeypointLabels, sigma=0.5, topk=3, thresholds=[0.1, 0.2])


def pose(shifts: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """A video of three marked cells of 4 px that move by `shifts` cells, and their points t p 3."""
    places = np.array([(1, 1), (1, 4), (3, 2)])
    shown = np.zeros((len(shifts), 24, 32), np.uint8)
    points = np.ones((len(shifts), 3, 3))
    for t, shift in enumerate(shifts):
        for p, (row, column) in enumerate(places + shift):
            shown[t, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = p + 1
            points[t, p, :2] = 4 * column, 4 * row
    return shown, points


def run_points(shown: np.ndarray, points: np.ndarray):
    videos = Videos([MadeUp("v", shown)], {"v": Keypoints((24, 32), points)})
    return evaluation(KEYPOINTS).run(subject_of(Shows(patch=4), videos))


def test_points_that_features_know_are_found():
    report = run_points(*pose([(0, 0), (0, 1), (1, 2), (1, 1)]))
    assert report.metrics["propagation_pck_0.1"] == report.metrics["propagation_pck_0.2"] == 1
    assert report.rows[0]["num_points"] == 9


def test_points_elsewhere_are_wrong_and_points_that_are_not_visible_do_not_count():
    shown, points = pose([(0, 0), (0, 1), (1, 2)])
    points[1:, 0, 0] += 20
    assert run_points(shown, points).metrics["propagation_pck_0.2"] == pytest.approx(2 / 3)
    points[0, 0, 2] = 0  # not given in frame 0: never found, so not wrong
    report = run_points(shown, points)
    assert report.metrics["propagation_pck_0.2"] == 1 and report.rows[0]["num_points"] == 4


def test_a_point_is_a_gaussian_on_the_grid_and_is_read_back_where_it_was():
    labels = KeypointLabels(sigma=1.0, topk=1, thresholds=[0.1])
    frame = Frame(RULE, Grid(10, 20), (40, 80), (80, 160))
    points = np.array([[[72.0, 24.0, 1], [8.0, 64.0, 1], [8.0, 8.0, 0]]])
    soft = labels.given(Keypoints((80, 160), points), frame)
    assert soft.shape == (4, 200) and soft[1].max() == 1 and not soft[3].any()
    assert soft[1, 3 * 20 + 9] == 1 and soft[1, 3 * 20 + 10] == pytest.approx(np.exp(-0.5))
    assert torch.equal(soft[0] == 1, soft[1:].sum(0) == 0) and torch.equal(soft[0] == 0, soft[1:].sum(0) > 0)
    found = labels.read(soft[None], frame)
    np.testing.assert_allclose(found[0, :2], points[0, :2])
    assert found[0, 2, 2] == 0


def test_pck_by_hand():
    """A box of 30 x 40: its diagonal is 50, the scale 30, so a point may be 3 or 6 px away."""
    truth = np.ones((3, 3, 3))
    truth[:, :, :2] = [(0, 0), (30, 40), (10, 10)]
    found = truth.copy()
    found[1, 0, 0] += 3.0
    found[2, 0, 0] += 3.1
    found[1, 1, 1] += 7.0
    found[0] = 0  # the first frame does not count
    right, counts = correct_keypoints(found, truth, [0.1, 0.2])
    assert right.tolist() == [[1, 1, 2], [2, 1, 2]] and counts.tolist() == [2, 2, 2]
    assert pck(right, counts) == pytest.approx([2 / 3, 5 / 6])
    found[:, 1, 2] = 0  # then the box is that of the other two: 10 x 10, and 0.1 of it less than 1 px
    right, counts = correct_keypoints(found, truth, [0.1, 0.2])
    assert right.tolist() == [[0, 0, 2], [0, 0, 2]] and counts.tolist() == [2, 0, 2]
    assert pck(right, counts).tolist() == [0.5, 0.5]
