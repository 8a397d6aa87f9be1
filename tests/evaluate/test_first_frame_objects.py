"""The evaluation of first-frame objects, on a model whose answer is known."""

from __future__ import annotations

import functools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from einops import rearrange
from torch import nn

from vocl.data.truth import Truth
from vocl.evaluate.discovery import Discovery
from vocl.evaluate.first_frame import FirstFrameObjects
from vocl.evaluate.protocol import Protocol
from vocl.interface import Grid, SegmentOptions, Segments, Subject

DATASET = SimpleNamespace(name="drawn", size_px=[8, 8], fit="stretch", normalise="half")


class Squares:
    """Three videos of two squares, red channel = label times 20; v2 begins empty."""

    def __init__(self):
        labels = np.zeros((4, 8, 8), np.uint8)
        labels[:, :4, :4], labels[:, 4:, 5:] = 1, 2
        self.labels = {f"v{i}": labels.copy() for i in range(3)}
        self.labels["v1"][2:, 6:, :2] = 3  # appears later
        self.labels["v2"][0] = 0

    def __len__(self):
        return 3

    def __getitem__(self, index):
        labels = self.labels[f"v{index}"]
        frames = lambda at: np.repeat(labels[list(at)][..., None] * 20, 3, axis=-1)  # noqa: E731
        return SimpleNamespace(name=f"v{index}", length=4, size=(8, 8), frames=frames)

    def truth(self, name):
        return Truth.from_labels(self.labels[name])


class Oracle(nn.Module):
    """The label's own channel of six, `channels` of it."""

    def __init__(self, channels=(0, 1, 2, 3)):
        super().__init__()
        self.channels = torch.tensor(channels)

    def segment(self, clip, options, carry=None):
        labels = ((clip.video[:, :, 0] * 0.5 + 0.5) * 255 / 20).round().long()
        masks = nn.functional.one_hot(self.channels[labels], 6).float()
        return Segments(rearrange(masks, "b t h w k -> b t k (h w)"), Grid(8, 8))


def report(model, kind=FirstFrameObjects, **own):
    protocol = functools.partial(Protocol, name="p", resolution="truth", overlap="paint", empty="skip")
    options = functools.partial(SegmentOptions, cyclic=False, iterations=None, seed=0)
    evaluation = kind(split="s", max_videos=None, window=3, protocol=protocol, options=options, **own)
    source = Squares()
    return evaluation.run(Subject(model, DATASET, lambda split: source, torch.device("cpu")))


@pytest.mark.parametrize("channels", [(0, 1, 2, 3), (2, 0, 5, 1)])
def test_an_oracle_scores_one_whatever_its_names(channels):
    found = report(Oracle(channels), legacy_rank_bug=False)
    own = {k: found.metrics[k] for k in ("video_miou_frame_avg", "image_fg_ari_matched")}
    assert own == {"video_miou_frame_avg": 1.0, "image_fg_ari_matched": 1.0}
    assert [row["video_miou_frame_avg"] for row in found.rows][:2] == [1.0, 1.0]
    assert math.isnan(found.rows[2]["video_miou_frame_avg"])  # begins without an object
    plain = report(Oracle(channels), Discovery).metrics
    assert {k: v for k, v in found.metrics.items() if k not in own} == plain


def test_the_releases_bug_lowers_the_score_of_names_with_a_gap():
    assert report(Oracle(), legacy_rank_bug=True).metrics["video_miou_frame_avg"] == 1.0
    bugged = report(Oracle((0, 2, 5, 1)), legacy_rank_bug=True).metrics
    assert bugged["video_miou_frame_avg"] < 0.6
