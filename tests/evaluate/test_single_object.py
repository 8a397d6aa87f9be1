"""Single-object J by its selectors, on models whose masks are drawn."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from made_up import OPTIONS, MadeUp, Videos, labels_of, squares, subject_of
from torch import Tensor

from vocl.data.truth import Truth
from vocl.evaluate.single_object import SingleObject
from vocl.interface import Clip, Grid, SegmentOptions, Segments, VideoModel
from vocl.ops.selection import Validity

STILL = squares([(4, 4)] * 3, [(12, 20)] * 3)  # two squares of 64 px in 768
VALIDITY = functools.partial(Validity, level=0.3, min_area=0.05, min_score=0.5, max_border=0.5)


class Drawn(VideoModel):
    """Masks on a grid of single pixels: one slot per label shown, less `soften`; `more` says the rest."""

    def __init__(self, slots: int = 3, soften: float = 0.0, **more) -> None:
        super().__init__()
        self.slots, self.soften, self.more = slots, soften, more

    def segment(self, clip: Clip, options: SegmentOptions, carry: int | None = None) -> Segments:
        one_hot = F.one_hot(labels_of(clip.video), self.slots).float() * (1 - self.soften)
        masks = rearrange(one_hot, "b t h w k -> b t k (h w)")
        more = {key: value(masks) for key, value in self.more.items()}
        return Segments(masks, Grid(*clip.video.shape[-2:]), carry=(carry or 0) + clip.video.shape[1], **more)


def scored(model: VideoModel, videos: Videos, window: int = 24, **changes):
    evaluation = SingleObject(
        split="validation",
        max_videos=None,
        window=window,
        threshold=0.3,
        oracle_threshold=0.5,
        validity=functools.partial(VALIDITY, **changes),
        options=lambda: OPTIONS,
    )
    return evaluation.run(subject_of(model, videos))


def per_slot(values: list[float]):
    def scores(masks: Tensor) -> Tensor:
        return torch.tensor(values).expand(*masks.shape[:3])

    return scores


@pytest.mark.parametrize("window", [1, 2, 24])
def test_every_selector_by_hand(window):
    metrics = scored(Drawn(), Videos([MadeUp("v", STILL)]), window).metrics
    assert metrics["single_valid_union_j"] == pytest.approx(128 / 768)  # the background is large too
    assert metrics["single_border_j"] == metrics["single_oracle_j"] == 1
    assert metrics["single_best_slot_j"] == 0.5
    assert metrics["single_patch_ceiling_j"] == 1 and metrics["num_without_truth"] == 0


def test_the_best_slot_is_one_for_the_whole_video():
    switched = STILL.copy()
    switched[2] = np.select([STILL[2] == 1, STILL[2] == 2], [2, 1], 0)
    one = {"v": Truth.from_labels((STILL == 1).astype(np.uint8))}
    report = scored(Drawn(), Videos([MadeUp("v", switched)], one))
    assert report.metrics["single_best_slot_j"] == pytest.approx(2 / 3) and report.rows[0]["best_slot"] == 1
    assert report.metrics["single_oracle_j"] == 1


def test_scores_and_areas_decide_what_is_valid():
    videos = Videos([MadeUp("v", STILL)])
    for scores, expected in (([0.9, 0.9, 0.4], 64 / 768), ([0.1, 0.9, 0.5], 1), ([0.1, 0.9, 0.4], 0.5)):
        found = scored(Drawn(scores=per_slot(scores)), videos).metrics
        assert found["single_valid_union_j"] == pytest.approx(expected)
    assert scored(Drawn(), videos, min_area=0.5).metrics["single_border_j"] == 0


def test_the_mean_is_over_frames_and_then_over_videos_and_void_does_not_count():
    short, long = STILL[:1].copy(), STILL.copy()
    truth = np.where(long == 2, 255, long)
    videos = Videos(
        [MadeUp("a", short), MadeUp("b", long)],
        {"a": Truth.from_labels(short * 0), "b": Truth.from_labels(truth)},
    )
    report = scored(Drawn(scores=per_slot([0.1, 0.9, 0.9])), videos)
    assert [row["single_valid_union_j"] for row in report.rows] == [0, 1]
    assert [row["num_frames"] for row in report.rows] == [1, 3]
    assert report.metrics["single_valid_union_j"] == 0.5


def test_masks_that_overlap_are_stretched_and_cut():
    """Every slot claims a fifth of what it shows: far below any level, but stretched it is the same."""
    model = Drawn(soften=0.8, exclusive=lambda _: False, scores=per_slot([0.1, 0.9, 0.9]))
    found = scored(model, Videos([MadeUp("v", STILL)]), level=0.1).metrics
    assert found["single_valid_union_j"] == found["single_oracle_j"] == 1


def test_whole_patches_reach_only_so_much():
    class Coarse(Drawn):
        def segment(self, clip, options, carry=None):
            masks = torch.ones(1, clip.video.shape[1], 1, 12)
            return Segments(masks, Grid(3, 4))

    odd = squares([(3, 3)] * 2, side=12)
    found = scored(Coarse(), Videos([MadeUp("v", odd)])).metrics
    assert 0.3 < found["single_patch_ceiling_j"] < 0.9
    assert found["single_best_slot_j"] == pytest.approx(144 / 768)
