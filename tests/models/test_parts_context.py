"""Parts of `Recurrent` that read more than their arguments, and give more than slots and masks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vocl.interface import Backbone, Clip, Context, Corrected, Features, Grid, SegmentOptions
from vocl.models.recurrent import Recurrent
from vocl.nn.decoders import Decoded, MLPDecoder
from vocl.nn.slot_attention import SlotAttention
from vocl.nn.slot_init import Learned

OPTIONS = SegmentOptions(cyclic=False, iterations=None, seed=0, masks=None)


class Colours(Backbone):
    dim, patch_px = 3, 4

    def forward(self, video: Tensor, keep: Tensor | None = None) -> Features:
        patches = video.unfold(3, 4, 4).unfold(4, 4, 4).mean((-1, -2))
        return Features(patches.flatten(3).transpose(2, 3), self.grid(tuple(video.shape[-2:])))


class FromBoxes(nn.Module):
    """A slot from each box of the first frame."""

    needs = frozenset({"clip.boxes"})
    provides = frozenset({"extra.positions"})

    def __init__(self, num_slots: int, slot_dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(4, slot_dim)

    def forward(self, key: Tensor, context: Context) -> Tensor:
        boxes = context.clip.boxes[:, 0, :, :4]
        context.extra["positions"] = boxes
        return self.project(boxes)


class Telling(SlotAttention):
    """Also says which frame it was at and how many earlier frames it could see."""

    needs = frozenset({"frame", "slots"})

    def forward(self, slots: Tensor, features: Tensor, iterations: int, context: Context) -> Corrected:
        slots, attn = super().forward(slots, features, iterations)
        seen = slots.new_tensor([[context.frame, len(context.slots)]]).expand(len(slots), 2)
        return Corrected(slots, attn, {"seen": seen})


class Ahead(nn.Module):
    """Moves the slots towards the mean of the next frame, where the clip has one."""

    needs = frozenset({"inputs", "frame"})

    def forward(self, slots: Tensor, context: Context) -> Tensor:
        ahead = context.inputs[:, context.frame + 1 : context.frame + 2].mean(2)
        return slots + ahead if ahead.shape[1] else slots


class Copying(MLPDecoder):
    """Reconstructs its target by reading it."""

    needs = frozenset({"target"})

    def forward(self, slots: Tensor, reconstruct: bool = True, *, context: Context) -> Decoded:
        return super().forward(slots, reconstruct)._replace(recon=context.target)


def model_of() -> Recurrent:
    torch.manual_seed(0)
    return Recurrent(
        Colours(),
        (8, 8),
        num_slots=2,
        slot_dim=8,
        target="features",
        initializer=FromBoxes,
        adapter=lambda dim, slot_dim, grid: nn.Linear(dim, slot_dim),
        corrector=lambda d: Telling(d, first_iterations=2, iterations=1, mlp_dim=None, hidden="raw"),
        predictor=lambda d: Ahead(),
        decoder=lambda d, e, grid: Copying(d, e, grid, hidden_dim=8, num_layers=1),
    )


def clip_of() -> Clip:
    return Clip(
        video=torch.rand(3, 4, 3, 8, 8),
        valid=torch.ones(3, 4, dtype=torch.bool),
        key=torch.arange(3),
        names=("a", "b", "c"),
        boxes=torch.rand(3, 4, 2, 5),
    )


def test_parts_read_what_they_need_and_their_further_words_reach_the_output() -> None:
    model, clip = model_of(), clip_of()
    output = model(clip)
    assert torch.equal(output.extra["positions"], clip.boxes[:, 0, :, :4])
    assert output.extra["seen"].shape == (3, 4, 2)
    assert output.extra["seen"][0].tolist() == [[0, 0], [1, 1], [2, 2], [3, 3]]
    assert torch.equal(output.recon, output.target)
    inputs = model.corrector.prepare(model.adapter(output.features))
    torch.testing.assert_close(
        output.predicted[:, 1], output.slots[:, 1] + inputs[:, 2].mean(1, keepdim=True)
    )
    assert torch.equal(output.predicted[:, 3], output.slots[:, 3])


def test_parts_read_the_same_where_a_video_is_segmented() -> None:
    model, clip = model_of().eval(), clip_of()
    found = model.segment(clip, OPTIONS)
    assert torch.equal(found.slots, model(clip).slots)


def test_masks_are_the_decoders_or_the_attention() -> None:
    model, clip = model_of().eval(), clip_of()
    output = model(clip)
    for masks, expected in ((None, output.masks), ("decoder", output.masks), ("attention", output.attn)):
        options = SegmentOptions(cyclic=False, iterations=None, seed=0, masks=masks)
        torch.testing.assert_close(model.segment(clip, options).masks, expected)
    assert not torch.allclose(output.masks, output.attn)


def test_parts_that_need_nothing_are_called_as_before() -> None:
    model = Recurrent(
        Colours(),
        (8, 8),
        num_slots=2,
        slot_dim=8,
        target="features",
        initializer=Learned,
        adapter=lambda dim, slot_dim, grid: nn.Linear(dim, slot_dim),
        corrector=lambda d: SlotAttention(d, first_iterations=2, iterations=1, mlp_dim=None, hidden="raw"),
        predictor=None,
        decoder=lambda d, e, grid: MLPDecoder(d, e, grid, hidden_dim=8, num_layers=1),
    )
    output = model(clip_of())
    assert output.extra is None and output.grid == Grid(2, 2)
