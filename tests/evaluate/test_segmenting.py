"""What a model says of a video is checked where it enters: scores, pictures and label maps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from vocl.errors import UserError
from vocl.evaluate.masks.segmenting import segment
from vocl.interface import Backbone, Clip, Features, Grid, SegmentOptions, Segments, VideoModel

OPTIONS = SegmentOptions(cyclic=False, iterations=None, seed=0, masks=None)


def clip_of(length: int = 4) -> Clip:
    return Clip(
        video=torch.rand(1, length, 3, 8, 12),
        valid=torch.ones(1, length, dtype=torch.bool),
        key=torch.zeros(1, dtype=torch.int64),
        names=("a",),
    )


def good() -> dict[str, Any]:
    masks = torch.rand(1, 4, 3, 6).softmax(2)
    return {
        "masks": masks,
        "grid": Grid(2, 3),
        "scores": torch.ones(1, 4, 3),
        "slots": torch.ones(1, 4, 3, 5),
    }


class Says(VideoModel):
    """A model that gives a fixed answer."""

    def __init__(self, **answer: Any) -> None:
        super().__init__()
        self.answer = Segments(**answer)

    def segment(self, clip: Clip, options: SegmentOptions, carry: Any = None) -> Segments:
        return self.answer


def test_a_fitting_answer_passes_as_it_is() -> None:
    model = Says(**good())
    assert segment(model, clip_of(), OPTIONS) is model.answer


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"masks": torch.full((1, 2, 3, 6), 0.3)}, r"masks of shape \[1, 2, 3, 6\] for a clip of b=1, t=4"),
        ({"masks": torch.full((1, 4, 3, 8), 0.3)}, "n=8 patches on a grid of 2 x 3"),
        ({"masks": torch.full((4, 3, 6), 0.3)}, "expected b t k n"),
        ({"masks": torch.full((1, 4, 3, 6), 0.5)}, "sum to more than 1"),
        ({"masks": torch.full((1, 4, 3, 6), torch.nan)}, "from nan to nan"),
        ({"masks": torch.full((1, 4, 3, 6), -2.0)}, "from -2 to -2"),
        ({"scores": torch.ones(1, 4, 2)}, r"scores of shape \[1, 4, 2\], expected \[1, 4, 3\]"),
        ({"parent": torch.zeros(2)}, r"parent of shape \[2\], expected \[3\]"),
        ({"slots": torch.ones(1, 4, 2, 5)}, r"slots of shape \[1, 4, 2, 5\]"),
        ({"masks": torch.ones(1, 4, 1, 6, dtype=torch.bool)}, "masks of torch.bool; expected soft masks"),
        ({"exclusive": False}, "its masks overlap"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused_with_the_model_and_the_reason(
    change: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=rf"model {__name__}\.Says: segment: .*{words}"):
        segment(Says(**(good() | change)), clip_of(), OPTIONS)


def test_an_answer_of_another_kind_is_refused() -> None:
    model = Says(**good())
    model.answer = model.answer.masks
    with pytest.raises(UserError, match=r"\.Says: segment: it returned Tensor, not vocl"):
        segment(model, clip_of(), OPTIONS)


def test_overlapping_masks_reach_those_who_can_use_them() -> None:
    model = Says(**(good() | {"exclusive": False, "masks": torch.ones(1, 4, 3, 6)}))
    assert segment(model, clip_of(), OPTIONS, overlapping=True) is model.answer


class Tubelets(Backbone):
    """Tokens that each span two frames: their mean colour."""

    frames_per_token = 2
    dim, patch_px = 3, 4

    def forward(self, video: Tensor, keep: Tensor | None = None) -> Features:
        assert video.shape[1] % 2 == 0
        pairs = video.unfold(1, 2, 2).mean(-1)
        patches = pairs.unfold(3, 4, 4).unfold(4, 4, 4).mean((-1, -2))
        return Features(patches.flatten(3).transpose(2, 3), self.grid(tuple(video.shape[-2:])))


@pytest.mark.parametrize("length", [1, 4, 5])
def test_tokens_that_span_frames_stand_for_each_of_them(length: int) -> None:
    model, clip = VideoModel(), clip_of(length)
    model.backbone = Tubelets()
    tokens = model.encode(clip).tokens
    assert tokens.shape == (1, length, 6, 3)
    for start in range(0, length - 1, 2):
        assert torch.equal(tokens[:, start], tokens[:, start + 1])
        torch.testing.assert_close(tokens[0, start].mean(0), clip.video[0, start : start + 2].mean((0, 2, 3)))
