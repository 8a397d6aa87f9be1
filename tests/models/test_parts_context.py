"""Parts of `Recurrent` that read more than their arguments, and give more than slots and masks."""

from __future__ import annotations

import pytest
import small_interpreters
import torch
from test_solv_model import clip_of as small_solv_clip
from test_solv_model import make as small_solv
from torch import Tensor, nn
from walks import project

from vocl.config.compose import composed
from vocl.errors import UserError
from vocl.interface import Backbone, Clip, Context, Corrected, Features, Grid, SegmentOptions
from vocl.models.recurrent import Recurrent
from vocl.nn.decoders.broadcast import Decoded, MLPDecoder
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


class Reading(Telling):
    """Cannot do without what the initializer says."""

    needs = frozenset({"frame", "slots", "extra"})

    def forward(self, slots: Tensor, features: Tensor, iterations: int, context: Context) -> Corrected:
        assert context.extra["positions"].shape == (3, 2, 4)
        return super().forward(slots, features, iterations, context)


class Looking(MLPDecoder):
    """Keeps what it is given."""

    needs = frozenset({"extra"})

    def forward(self, slots: Tensor, reconstruct: bool = True, *, context: Context) -> Decoded:
        self.seen = dict(context.extra)
        return super().forward(slots, reconstruct)


def test_what_parts_say_follows_a_cyclic_sweep() -> None:
    model, clip = model_of().eval(), clip_of()
    settings = {"first_iterations": 2, "iterations": 1, "mlp_dim": None, "hidden": "raw"}
    model.corrector = Reading(8, **settings)
    model.decoder = Looking(8, 3, Grid(2, 2), hidden_dim=8, num_layers=1)
    model.segment(clip, SegmentOptions(cyclic=True, iterations=None, seed=0, masks=None))
    assert torch.equal(model.decoder.seen["positions"], clip.boxes[:, 0, :, :4])
    assert model.decoder.seen["seen"][0].tolist() == [[2, 2], [1, 1], [0, 0], [3, 3]]


class Further(nn.Module):
    """A decoder `inner` that looks at all there is, and says one thing more of each of its rows."""

    needs = frozenset({"extra"})

    def __init__(self, inner: nn.Module, *there: str) -> None:
        super().__init__()
        self.inner, self.there = inner, there

    def forward(self, *arguments, context: Context):
        assert all(getattr(context, name) is not None for name in self.there)
        context.extra["rows"] = torch.arange(len(arguments[0]))
        return self.inner(*arguments)


def test_decoders_of_other_models_read_and_give_too() -> None:
    solv = small_solv()
    solv.decoder = Further(solv.decoder, "features", "inputs", "grid", "target")
    assert solv(small_solv_clip()).extra["rows"].tolist() == [0, 1]
    interpreter = small_interpreters.make()
    interpreter.image.decoder = Further(interpreter.image.decoder, "features", "inputs", "grid", "target")
    interpreter.video.decoder = Further(interpreter.video.decoder, "inputs", "target")
    clip = small_interpreters.clip_of()
    image = small_interpreters.begin(interpreter, "image")(clip)
    assert image.extra["rows"].tolist() == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert image.children.extra is image.extra
    assert small_interpreters.begin(interpreter, "video")(clip).extra["rows"].tolist() == [0, 1]


TELLING = """from typing import ClassVar

from vocl.nn.adapters import MLPAdapter


class Telling(MLPAdapter):
    provides: ClassVar[frozenset[str]] = frozenset({"extra.margin"})
"""


def test_a_plan_counts_on_those_parts_alone_whose_words_the_model_hands_on(tmp_path) -> None:
    ours = project(tmp_path)
    (ours / "mine" / "telling.py").write_text(TELLING)
    asked = [f"project={ours}", "loss=[feature_mse,sureness]", "model.adapter._target_=mine.telling.Telling"]
    with pytest.raises(UserError, match=r"loss\.sureness: needs extra\.margin, which model"):
        composed(asked)
    composed([*asked, "model/corrector=sure"])
