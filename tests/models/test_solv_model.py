"""SOLV as its config assembles it."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from vocl import assemble
from vocl.config.compose import composed
from vocl.curriculum import Stage
from vocl.errors import UserError
from vocl.interface import Clip, SegmentOptions
from vocl.losses.reconstruction import FeatureMSE
from vocl.models.solv import SOLV, _link
from vocl.nn.invariant import Bound, pose, relative
from vocl.ops.random import subsets

SMALL = (
    "experiment=solv/synthetic",
    "backbone=tiny_vit",
    "dataset.size_px=[56,56]",
    "model.slot_dim=16",
    "model.adapter.hidden_ratio=1.0",
    "model.spatial.mlp_dim=16",
    "model.temporal.ffn_dim=16",
    "model.decoder.hidden_dim=16",
    "dataset.clip_frames=5",
)
OPTIONS = SegmentOptions(cyclic=False, iterations=None, seed=0)


def make(*overrides: str) -> SOLV:
    torch.manual_seed(0)
    return assemble.make_model(composed([*SMALL, *overrides]), pretrained=False)


def clip_of(batch: int = 2, frames: int = 5) -> Clip:
    video = torch.randn(batch, frames, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    return Clip(video, torch.ones(batch, frames, dtype=torch.bool), torch.arange(batch) + 7, ("a",) * batch)


def part(clip: Clip, start: int, stop: int, rows: slice = slice(None)) -> Clip:
    return Clip(clip.video[rows, start:stop], clip.valid[rows, start:stop], clip.key[rows], clip.names[rows])


def stage(active: int | None = None) -> Stage:
    rest = {"rate": None, "lr": {}, "weight_decay": {}, "feed": None, "enter": []}
    return Stage(length=1.0, train="all", terms="all", active_slots=active, **rest)


def test_the_papers_numbers() -> None:
    config = composed(["experiment=solv/ytvis2019"])
    rows, columns = (side // 14 for side in config.dataset.size_px)
    assert (rows, columns, rows * columns) == (24, 36, 864)
    optimizer = assemble.make_optimizer(config)
    rates = [optimizer.rate(step) for step in (7_500, 15_000, 110_000, 205_000, 300_000)]
    assert rates == pytest.approx([2e-4, 4e-4, 2e-4, 1e-4, 5e-5])
    torch.manual_seed(0)
    tiny_vit = ["backbone=tiny_vit", "backbone.depth=1", "backbone.block=1", "backbone.num_heads=6"]
    model = assemble.make_model(
        composed(["experiment=solv/ytvis2019", *tiny_vit, "backbone.dim=768"]), pretrained=False
    )
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters() if p.requires_grad}
    assert shapes["initializer.slots"] == (1, 8, 128)
    assert shapes["spatial.grid"] == (864, 2) and shapes["spatial.scale"] == (8, 2)
    assert shapes["adapter.mlp.0.weight"] == (768, 768) and shapes["adapter.mlp.2.weight"] == (128, 768)
    assert shapes["spatial.mlp.0.weight"] == (512, 128)
    assert shapes["temporal.time"] == (5, 1, 128) and shapes["temporal.blocks.2.linear1.weight"] == (512, 128)
    assert [s for n, s in shapes.items() if n.startswith("decoder.mlp") and n.endswith("weight")] == [
        (1024, 128), (1024, 1024), (1024, 1024), (1024, 1024), (769, 1024),
    ]  # fmt: skip


def test_the_output_is_of_the_middle_frame_and_everything_gets_a_gradient() -> None:
    model, clip = make(), clip_of()
    model.begin(stage(), 0)
    output = model(clip)
    provided = {f.name for f in dataclasses.fields(output) if getattr(output, f.name) is not None}
    assert provided == model.provides | {"grid"}
    assert output.recon.shape == output.target.shape == (2, 1, 16, 48)
    assert output.slots.shape == (2, 1, 6, 16) and output.active.all()
    torch.testing.assert_close(output.target, model.backbone(clip.video[:, 2:3]).tokens)
    torch.testing.assert_close(output.masks.sum(2), torch.ones(2, 1, 16))
    kept = subsets(clip.key, "tokens", 5, 8, 16)[:, 2]
    torch.testing.assert_close(output.attn.sum(2)[:, 0].gather(1, kept), torch.ones(2, 8))
    torch.testing.assert_close(output.attn.sum((1, 2, 3)), torch.full((2,), 8.0))
    loss = FeatureMSE()(output, clip)
    torch.testing.assert_close(loss, (output.recon - output.target).square().mean())
    loss.backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_forward_is_its_parts_one_after_the_other() -> None:
    model, clip = make().eval(), clip_of(1)
    keep = subsets(clip.key, "tokens", 5, 8, 16)
    grid = model.spatial.grid
    slots, weights = [], []
    for t in range(5):
        tokens = model.backbone(clip.video[:, t : t + 1], keep[:, t : t + 1]).tokens
        first = model.initializer(clip.key)
        bound = model.spatial(first, model.adapter(tokens), grid[keep[:, t : t + 1]])
        slots.append(bound.slots)
        weights.append(bound.weights)
    middle = model.temporal(torch.cat(slots, dim=1), clip.valid, torch.tensor([2]))[:, 0]
    distances = 1 - torch.nn.functional.cosine_similarity(middle[0, :, None], middle[0], dim=-1)
    model.merging.threshold = distances[distances > 1e-3].min().item() + 0.01  # the nearest two merge
    labels = model.merging.labels(middle)[0].tolist()
    clusters = [[i for i, label in enumerate(labels) if label == c] for c in range(max(labels) + 1)]
    assert 3 <= len(clusters) < 6
    model.chance_to_keep = 0.0
    output = model(clip)
    assert output.active[0].sum() == len(clusters)
    decoded = []
    for members in clusters:
        slot = middle[0, members].mean(0)
        weight = weights[2][0, 0, members].sum(0)
        p, s = pose((weight / weight.sum())[None, None], grid[keep[:, 2]])
        place = relative(grid, p, s)[0, 0]
        decoder = model.decoder
        decoded.append(decoder.mlp(slot + decoder.pos_emb + decoder.relate(place)))
    decoded = torch.stack(decoded)
    masks = decoded[..., -1].softmax(0)
    torch.testing.assert_close(output.masks[0, 0, : len(clusters)], masks)
    assert (output.masks[0, 0, len(clusters) :] == 0).all()
    torch.testing.assert_close(output.recon[0, 0], (masks.unsqueeze(-1) * decoded[..., :-1]).sum(0))


def test_a_clip_depends_on_its_own_key_alone_unless_the_bug_is_kept() -> None:
    clip = clip_of(2)
    for bug in (False, True):
        model = make(f"model.legacy_index_bug={str(bug).lower()}").train()
        model.begin(stage(), 0)
        both, second = model(clip), model(part(clip, 0, 5, slice(1, 2)))
        assert torch.allclose(both.recon[1], second.recon[0], atol=1e-5) is not bug


def test_the_bug_takes_positions_of_the_first_frames_of_the_batch() -> None:
    model = make("model.legacy_index_bug=true")
    coordinates = torch.randn(3, 5, 8, 2)
    assert torch.equal(model._middle(coordinates, 2), coordinates[0, :3])
    assert torch.equal(make()._middle(coordinates, 2), coordinates[:, 2])
    clip = clip_of(2)
    without = "model.token_drop=0"
    a, b = make(without).eval()(clip), make(without, "model.legacy_index_bug=true").eval()(clip)
    assert torch.equal(a.recon, b.recon)  # nothing dropped, nothing wrong


def test_all_noise_comes_from_the_clips_key() -> None:
    model, clip = make(), clip_of()
    model.begin(stage(), 3)
    torch.manual_seed(1)
    first = model(clip).recon
    torch.manual_seed(2)
    assert torch.equal(first, model(clip).recon)
    clip.key += 1
    assert not torch.allclose(first, model(clip).recon)


def test_clips_of_other_lengths_are_the_window_around_their_middle() -> None:
    model, clip = make().eval(), clip_of(1, 9)
    model.begin(stage(), 0)
    torch.testing.assert_close(model(clip).recon, model(part(clip, 2, 7)).recon)
    assert model(part(clip, 0, 1)).recon.shape == model(part(clip, 0, 2)).recon.shape == (1, 1, 16, 48)


def test_a_stage_trains_its_slots_and_the_chance_to_merge_follows_the_step() -> None:
    model, clip = make("train.steps=180"), clip_of()
    model.begin(stage(4), 0)
    assert model.chance_to_keep == 1 and model(clip).slots.shape[2] == 4
    model.begin(stage(), 179)
    assert model.chance_to_keep == 0 and model(clip).slots.shape[2] == 6
    alone = make("model.merge=null")
    alone.begin(stage(), 179)
    assert alone(clip).active.all()


def test_the_first_frame_of_a_video_is_forward_without_drop_or_context() -> None:
    model, clip = make("model.token_drop=0", "model.merge=null").eval(), clip_of(1, 1)
    model.begin(stage(), 0)
    found = model.segment(clip, OPTIONS)
    torch.testing.assert_close(found.masks, model(clip).masks)


def test_every_frame_is_bound_to_those_before_and_after_it() -> None:
    model, clip = make("model.token_drop=0", "model.merge=null").eval(), clip_of(1, 12)
    model.begin(stage(), 0)
    whole = model.segment(clip, OPTIONS)
    for t in range(2, 10):
        (alone,) = model(part(clip, t - 2, t + 3)).masks[0]
        ours = whole.masks[0, t]  # the same masks under other names
        distance = torch.cdist(ours, alone)
        torch.testing.assert_close(distance.min(dim=1).values, torch.zeros(6), atol=1e-4, rtol=0)


def test_windows_continue_each_other_up_to_what_lies_ahead() -> None:
    model, clip = make().eval(), clip_of(1, 12)
    whole = model.segment(clip, OPTIONS)
    first = model.segment(part(clip, 0, 8), OPTIONS)
    second = model.segment(part(clip, 8, 12), OPTIONS, first.carry)
    torch.testing.assert_close(first.masks[:, :6], whole.masks[:, :6])  # 6 and 7 look two frames ahead
    ids = len(first.carry.last[0])
    assert second.masks.shape == (1, 4, 6, 16) and ids <= 6
    causal = make("dataset.clip_frames=2").eval()  # a frame and the one before it: nothing ahead
    whole, first = causal.segment(clip, OPTIONS), causal.segment(part(clip, 0, 7), OPTIONS)
    second = causal.segment(part(clip, 7, 12), OPTIONS, first.carry)
    torch.testing.assert_close(torch.cat([first.masks, second.masks], dim=1), whole.masks)


def test_slots_that_change_places_keep_their_channel(monkeypatch) -> None:
    model, clip = make("model.merge=null").eval(), clip_of(1, 4)
    clip.video[:] = clip.video[:, :1].clone()  # a still
    monkeypatch.setattr(model.temporal, "forward", lambda slots, valid, frames: slots)
    still = model.segment(clip, OPTIONS).masks
    order = torch.stack([torch.arange(6), *(torch.randperm(6) for _ in range(3))])
    bind = model._bind_all

    def shuffled(*args):
        return Bound(*(x.gather(2, order[None, :, :, None].expand_as(x)) for x in bind(*args)))

    monkeypatch.setattr(model, "_bind_all", shuffled)
    torch.testing.assert_close(model.segment(clip, OPTIONS).masks, still)


def test_slots_that_share_an_identity_share_a_channel() -> None:
    """Two slots in frame 0, three in frame 1: the third takes the identity of its most similar one."""
    slots = torch.zeros(1, 2, 3, 4)
    slots[0, 0, :2], slots[0, 1] = torch.eye(4)[:2], torch.eye(4)[[1, 0, 1]]
    slots[0, 1, 2, 3] = 0.5
    active = torch.tensor([[[True, True, False], [True, True, True]]])
    masks = torch.rand(1, 2, 3, 5) * active.unsqueeze(-1)
    linked, _, ids = _link(slots, active, masks, None)
    assert ids[0].tolist() == [1, 0, 1]
    torch.testing.assert_close(linked[0, 0], masks[0, 0])
    expected = [masks[0, 1, 1], torch.maximum(masks[0, 1, 0], masks[0, 1, 2]), torch.zeros(5)]
    torch.testing.assert_close(linked[0, 1], torch.stack(expected))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.token_drop=1", "model.token_drop=1.0: out of range, choose a value < 1"),
        ("model.merge.threshold=0", "model.merge.threshold=0.0: out of range"),
        ("model.temporal.num_heads=3", "num_heads=3: does not divide the slots' width, model.slot_dim=16"),
        (
            "loss=[slot_contrast]",
            "loss.slot_contrast: needs at least 2 frames, but the output of model .* is of 1",
        ),
        ("model.window=0", "model.window=0: out of range"),
        ("curriculum.stages.all.active_slots=9", "the model has model.num_slots=6"),
    ],
)
def test_bad_values_are_refused(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(override)
