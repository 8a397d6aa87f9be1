"""Interpreter as its config assembles it: its two levels, what they learn, mistakes."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from small_interpreters import (
    OPTIONS,
    SMALL,
    begin,
    clip_of,
    gradients,
    make,
    merge_the_nearest,
    part,
    provided,
)

from vocl import assemble
from vocl.config.compose import composed
from vocl.errors import UserError
from vocl.interface import Grid
from vocl.losses.sinkhorn import SinkhornDivergence
from vocl.nn.positions import sine_cosine


def test_the_papers_numbers() -> None:
    model = make(
        "experiment=interpreter/ytvis2019", "backbone.dim=768", "backbone.depth=1", "backbone.block=1",
        "backbone.num_heads=6", "dataset.size_px=[336,504]", "dataset.clip_frames=36", "model.slot_dim=768",
        "model.image.num_slots=32", "model.image.slot_dim=768", "model.image.decoder.dim=768",
        "model.video.decoder.dim=768",
    )  # fmt: skip
    assert model.image.grid == (24, 36) and model.num_frames == 36 and model.num_slots == 8
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters() if p.requires_grad}
    assert shapes["image.adapter.mlp.0.weight"] == shapes["image.adapter.mlp.2.weight"] == (768, 768)
    for level in ("image", "video"):
        assert shapes[f"{level}.initializer.mean"] == (1, 1, 768)
        assert shapes[f"{level}.corrector.mlp.0.weight"] == (3072, 768)
        assert shapes[f"{level}.decoder.blocks.3.linear1.weight"] == (3072, 768)
        assert f"{level}.decoder.blocks.4.linear1.weight" not in shapes
    assert shapes["video.encoder.blocks.3.self_attn.qkv.weight"] == (2304, 768)
    assert model.video.merging.threshold == 0.15 and model.video.merging.min_clusters == 2


def test_the_papers_schedule() -> None:
    config = composed(["experiment=interpreter/ytvis2019"])
    curriculum = assemble.make_curriculum(config)
    assert curriculum.starts == [0, 110_000]
    steps = (0, 3_056, 109_999, 110_000, 111_312, 130_999)
    assert [curriculum.rate(step) for step in steps] == pytest.approx(
        [1e-4, 4e-4, 2e-6, 1e-5, 2e-4, 2e-6], rel=1e-3
    )
    image, video = (stage.feed() for stage in curriculum.stages)
    assert (image.clip_frames, image.batch) == (1, 128)
    assert config.train.batch == 96 and config.dataset.clip_frames == 36
    assert video.sampling(36)(SimpleNamespace(length=20), None).tolist() == [*range(20), *range(16)]
    decayed = [
        curriculum.weight_decay(f"image.{name}", 0, 0.005)
        for name in ("corrector.to_q.weight", "norm.weight")
    ]
    assert decayed == [0.005, 0.0]


def test_an_image_stage_computes_the_image_level_alone() -> None:
    model, clip = begin(make(), "image"), clip_of()
    output = model(clip)
    image = output.children
    assert provided(output) == {"slots", "attn", "grid", "children"}
    assert provided(image) == {"slots", "attn", "grid", "features", "target", "recon"}
    assert image.slots.shape == (2, 5, 7, 12) and image.attn.shape == (2, 5, 7, 16)
    assert image.recon.shape == image.target.shape == (2, 5, 16, 48)
    torch.testing.assert_close(image.target, model.backbone(clip.video).tokens)
    torch.testing.assert_close(image.attn.sum(2), torch.ones(2, 5, 16))
    (image.recon - image.target).square().mean().backward()
    without = [n for n, p in model.image.named_parameters() if p.grad is None]
    assert sorted(without) == ["initializer.log_std", "initializer.mean"]
    assert gradients(model) == {"image"}


def test_a_video_stage_sends_no_gradient_into_the_image_level() -> None:
    model, clip = begin(make("model.video.corrector.prior_grad=ste"), "video"), clip_of()
    output = model(clip)
    assert provided(output) == {"slots", "attn", "grid", "target", "recon", "active"}
    assert output.slots.shape == (2, 5, 6, 16) and torch.equal(output.slots[:, 0], output.slots[:, 4])
    assert output.recon.shape == output.target.shape == (2, 5, 7, 12)
    assert output.attn.shape == (2, 5, 6, 7) and output.grid == Grid(1, 7)
    torch.testing.assert_close(output.attn.sum(2), torch.ones(2, 5, 7))
    assert not output.target.requires_grad
    term = SinkhornDivergence(blur=0.05, scaling=0.5, debias=True, mean_over_channels=False)
    term(output, clip).backward()
    assert [n for n, p in model.video.named_parameters() if p.grad is None] == []
    assert all(p.grad.isfinite().all() for p in model.video.parameters())
    assert gradients(model) == {"video"}
    image, video = (begin(model, level)(clip) for level in ("image", "video"))
    children = {f"children.{name}" for name in provided(image.children) - {"grid"}}
    assert provided(image) | provided(video) | children == model.provides | {"grid"}


def test_the_video_level_is_its_parts_one_after_the_other() -> None:
    model, clip = begin(make("model.video.merge.threshold=1e-6"), "video").eval(), clip_of(1)
    merge_the_nearest(model, model(clip).slots[0, 0])
    output, level = model(clip), model.video
    tokens = output.target + sine_cosine(torch.arange(5), 12).unsqueeze(1)
    encoded = level.adapter(level.encoder(tokens.flatten(1, 2)))
    found, attn = level.corrector(level.initializer(clip.key), level.corrector.prepare(encoded))
    (labels,) = level.merging.labels(found).tolist()
    clusters = [[i for i, label in enumerate(labels) if label == c] for c in range(max(labels) + 1)]
    assert len(clusters) == 5
    slots = torch.stack([found[0, members].mean(0) for members in clusters])
    maps = torch.stack([attn[0, members].sum(0) for members in clusters])
    torch.testing.assert_close(output.slots[0, 0, : len(clusters)], slots)
    torch.testing.assert_close(output.attn[0, :, : len(clusters)], maps.unflatten(1, (5, 7)).transpose(0, 1))
    torch.testing.assert_close(output.recon[0].flatten(0, 1), level.decoder(slots[None], Grid(5, 7))[0])


def test_slots_keep_their_digits_in_low_precision() -> None:
    model, clip = begin(make(), "video"), clip_of()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(clip)
    for kept in (output.slots, output.attn, output.target):
        assert kept.dtype == torch.float32 and not torch.equal(kept, kept.bfloat16().float())
    torch.testing.assert_close(output.slots, model(clip).slots, rtol=0.1, atol=0.1)


def test_all_slots_of_a_frame_have_the_code_of_its_number(monkeypatch) -> None:
    model, seen = make("model.video.norm_inputs=true"), []
    monkeypatch.setattr(model.video.encoder, "forward", lambda tokens: seen.append(tokens) or tokens)
    slots = torch.randn(2, 5, 7, 12)
    model.video(slots, torch.tensor([1, 2]), 6)
    code = seen[0].unflatten(1, (5, 7)) - model.video.norm_inputs(slots)
    torch.testing.assert_close(code, sine_cosine(torch.arange(5), 12)[None, :, None].expand_as(code))


def test_a_stage_trains_its_slots_and_merging_may_be_left_to_chance() -> None:
    steps = ("train.steps=180", "model.video.merge.epochs=180")
    model, clip = make(*steps), clip_of()
    begin(model, "video", *steps, "+curriculum.stages.video.active_slots=4")
    assert model.chance_to_keep == 1 and model(clip).slots.shape[2] == 4
    assert model.segment(clip, OPTIONS).masks.shape[2] == 6
    begin(model, "video")
    assert begin(make("model.video.merge=null"), "video")(clip).active.all()


def test_all_noise_comes_from_the_clips_key() -> None:
    model, clip = make(), clip_of()
    for level in ("image", "video"):
        begin(model, level)
        torch.manual_seed(1)
        first = model(clip).slots
        torch.manual_seed(2)
        assert torch.equal(first, model(clip).slots)
        other = dataclasses.replace(clip, key=clip.key + 1)
        assert not torch.allclose(first, model(other).slots)
        torch.testing.assert_close(model(part(clip, slice(1, 2), slice(0, 5))).slots, first[1:])
    still = dataclasses.replace(clip, video=clip.video[:, :1].expand(-1, 5, -1, -1, -1))
    slots = begin(model, "image")(still).slots
    assert not torch.allclose(slots[:, 0], slots[:, 1])  # each frame has noise of its own


def test_the_video_level_fits_four_videos() -> None:
    """Its loss falls more than tenfold."""
    model = make(
        "backbone=filters", "dataset.size_px=[48,48]", "model.image.num_slots=4", "model.slot_dim=32"
    )
    model.backbone.eval()
    generator = torch.Generator().manual_seed(0)
    video = torch.nn.functional.interpolate(torch.randn(20, 3, 4, 4, generator=generator), size=(48, 48))
    clip = dataclasses.replace(clip_of(4, said=True), video=video.unflatten(0, (4, 5)))
    term = SinkhornDivergence(blur=0.05, scaling=0.5, debias=True, mean_over_channels=False)
    optimizer = torch.optim.AdamW(model.video.parameters(), lr=3e-3, weight_decay=0.005)
    begin(model, "video").noise_seeds = 1
    losses = []
    for _ in range(200):
        loss = term(model(clip), clip)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.video.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    assert min(losses[-20:]) < losses[0] / 10, (losses[0], losses[-20:])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.image.corrector.prior_grad=maybe", "prior_grad=maybe: choose from none, ste"),
        ("model.video.merge.threshold=0", "model.video.merge.threshold=0.0: out of range"),
        ("model.video.encoder.num_heads=5", "num_heads=5: does not divide the width of the blocks, 12"),
        ("model.image.decoder.dim=18", "decoder.dim=18: .* choose a multiple of 4"),
        ("loss=[image_feature_mse]", "curriculum.stages.video.terms: no term 'sinkhorn_divergence'"),
        ("curriculum.stages.image.level=both", "level=both: choose from image, video"),
    ],
)
def test_bad_values_are_refused(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(override)


@pytest.mark.parametrize(
    ("level", "message"),
    [
        ("image", r"loss.sinkhorn_divergence: there is no reconstruction in this stage"),
        ("video", r"loss.image_feature_mse.level=children: the model computes none in this stage"),
    ],
)
def test_terms_of_the_other_level_are_one_line(level: str, message: str) -> None:
    model, clip = begin(make(), level), clip_of()
    with pytest.raises(UserError, match=f"{message}; name the terms that count"):
        assemble.make_objective(composed([*SMALL]))(model(clip), clip, "all", 0)


def test_stages_that_do_not_say_their_level_are_refused() -> None:
    stages = assemble.make_curriculum(composed([*SMALL, "curriculum=fixed"])).stages
    with pytest.raises(UserError, match="curriculum: its stages do not say which level"):
        make().begin(stages[0], 0)
