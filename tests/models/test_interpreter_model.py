"""Interpreter as its config assembles it."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from vocl import assemble
from vocl.errors import UserError
from vocl.interface import Clip, Grid, SegmentOptions
from vocl.losses.sinkhorn import SinkhornDivergence
from vocl.models.interpreter import CHUNK, Interpreter
from vocl.nn import levels
from vocl.nn.levels import propagate
from vocl.nn.positions import sine_cosine
from vocl.ops.clustering import cosine_distances
from vocl.train import composed

SMALL = (
    "experiment=interpreter/synthetic",
    "backbone=tiny_vit",
    "dataset.size_px=[56,56]",
    "dataset.clip_frames=5",
    "model.slot_dim=16",
    "model.image.num_slots=7",
    "model.image.slot_dim=12",
    "model.image.decoder.dim=16",
    "model.video.decoder.dim=16",
)
OPTIONS = SegmentOptions(cyclic=False, iterations=None, seed=0)


def make(*overrides: str) -> Interpreter:
    torch.manual_seed(0)
    return assemble.make_model(composed([*SMALL, *overrides]), pretrained=False)


def begin(model: Interpreter, level: str, *overrides: str) -> Interpreter:
    stages = assemble.make_curriculum(composed([*SMALL, *overrides])).stages
    model.begin(next(stage for stage in stages if stage.level == level), 0)
    return model


def clip_of(batch: int = 2, frames: int = 5, said: bool = False) -> Clip:
    """Noise; `said`: with the numbers of its frames and whether they are mirrored."""
    video = torch.randn(batch, frames, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    more = {"frames": torch.arange(frames).repeat(batch, 1), "flipped": torch.arange(batch) % 2 == 1}
    names = tuple(f"video {i}" for i in range(batch))
    key = torch.arange(batch) + 7
    return Clip(video, torch.ones(batch, frames, dtype=torch.bool), key, names, **(more if said else {}))


def provided(output) -> set[str]:
    return {f.name for f in dataclasses.fields(output) if getattr(output, f.name) is not None}


def merge_the_nearest(model: Interpreter, slots: Tensor) -> None:
    """Set the threshold so that the two nearest of `slots` k d merge, and no others."""
    distances = torch.from_numpy(cosine_distances(slots.detach().numpy()))[*torch.triu_indices(6, 6, 1)]
    model.video.merging.threshold = float(distances.sort().values[:2].mean())


def gradients(model: Interpreter) -> set[str]:
    return {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}


# ------------------------------------------------------------------------------------ the two levels


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
    assert config["train"]["batch"] == 96 and config["dataset"]["clip_frames"] == 36
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
        torch.testing.assert_close(model(_part(clip, slice(1, 2), slice(0, 5))).slots, first[1:])
    still = dataclasses.replace(clip, video=clip.video[:, :1].expand(-1, 5, -1, -1, -1))
    slots = begin(model, "image")(still).slots
    assert not torch.allclose(slots[:, 0], slots[:, 1])  # each frame has noise of its own


def _part(clip: Clip, rows: slice, frames: slice) -> Clip:
    return Clip(clip.video[rows, frames], clip.valid[rows, frames], clip.key[rows], clip.names[rows])


# ------------------------------------------------------------------------------------ segmentation


def test_propagation() -> None:
    generator = torch.Generator().manual_seed(0)
    frame = torch.randn(2, 3, 5, 16, generator=generator).softmax(2)
    video = torch.randn(2, 3, 4, 5, generator=generator).softmax(2)
    masks = propagate(frame, video)
    torch.testing.assert_close(masks, torch.einsum("btks,btsn->btkn", video, frame))
    torch.testing.assert_close(masks.sum(2), torch.ones(2, 3, 16))
    torch.testing.assert_close(propagate(frame, torch.eye(5).expand(2, 3, -1, -1)), frame)
    order = torch.stack([torch.randperm(5, generator=generator) for _ in range(3)])
    index = order[None, :, :, None].expand_as(frame)
    again = propagate(frame.gather(2, index), video.gather(3, order[None, :, None].expand_as(video)))
    torch.testing.assert_close(again, masks)


@pytest.mark.parametrize("merging", [False, True])
def test_masks_are_the_product_of_both_attentions(merging: bool, monkeypatch) -> None:
    model, clip, kept = make("model.video.merge.threshold=1e-6").eval(), clip_of(1), []
    if merging:
        merge_the_nearest(model, model.segment(clip, OPTIONS).slots[0, 0])
    monkeypatch.setattr(levels, "merge", lambda *a, merge=levels.merge: kept.append(a) or merge(*a))
    found = model.segment(clip, OPTIONS)
    assert found.masks.shape == (1, 5, 6, 16) and found.grid == (4, 4) and found.exclusive
    torch.testing.assert_close(found.masks.sum(2), torch.ones(1, 5, 16))
    assert (found.masks.sum((0, 1, 3)) > 0).sum() == (5 if merging else 6)
    labels, attn = kept[0][3], kept[0][2]
    frame = begin(model, "image")(clip).attn
    alone = propagate(frame, attn.unflatten(2, (5, 7)).transpose(1, 2))
    for c in range(int(labels.max()) + 1):
        members = (labels[0] == c).nonzero().flatten()
        torch.testing.assert_close(found.masks[0, :, c], alone[0, :, members].sum(1))


def test_short_videos_are_repeated_and_cut_again() -> None:
    short, whole = clip_of(1, 3), clip_of(1, 3)
    whole = dataclasses.replace(
        whole, video=whole.video[:, [0, 1, 2, 0, 1]], valid=torch.ones(1, 5, dtype=torch.bool)
    )
    model = make().eval()
    found = model.segment(short, OPTIONS)
    assert found.masks.shape[1] == found.slots.shape[1] == 3
    assert torch.equal(found.masks, model.segment(whole, OPTIONS).masks[:, :3])
    longer = make("model.num_frames=2").eval().segment(short, OPTIONS)
    assert longer.masks.shape[1] == 3 and not torch.allclose(longer.masks, found.masks)
    many = model.segment(clip_of(1, 2 * CHUNK + 3), OPTIONS)
    assert many.masks.shape == (1, 2 * CHUNK + 3, 6, 16)


def test_the_options_of_an_evaluation() -> None:
    model, clip = make().eval(), clip_of(1)
    first = model.segment(clip, OPTIONS)
    assert torch.equal(first.masks, model.segment(clip, dataclasses.replace(OPTIONS, cyclic=True)).masks)
    more = model.segment(clip, dataclasses.replace(OPTIONS, iterations=9))
    assert not torch.allclose(first.masks, more.masks)
    with pytest.raises(UserError, match=r"options.masks=decoder: masks are attention here"):
        model.segment(clip, dataclasses.replace(OPTIONS, masks="decoder"))
    assert model.whole_video
    with pytest.raises(UserError, match="window: the model takes a video at once"):
        model.segment(clip, OPTIONS, first.carry)
    assert model.embed(clip).shape == (1, 5, 16, 48)


def test_frames_of_another_size_are_segmented_too() -> None:
    clip = clip_of(1)
    larger = dataclasses.replace(clip, video=torch.nn.functional.pad(clip.video, (0, 28)))
    found = make().eval().segment(larger, OPTIONS)
    assert found.grid == (4, 6) and found.masks.shape == (1, 5, 6, 24)


def test_features_that_a_clip_brings_take_the_place_of_frames() -> None:
    model, clip = make().eval(), clip_of(2, said=True)
    with_features = dataclasses.replace(clip, features=model.backbone(clip.video))
    for level in ("image", "video"):
        begin(model, level)
        torch.testing.assert_close(model(with_features).slots, model(clip).slots)
    torch.testing.assert_close(
        model.segment(with_features, OPTIONS).masks, model.segment(clip, OPTIONS).masks
    )


# ------------------------------------------------------------------------------------ kept slots


def counted(model: Interpreter, monkeypatch) -> list[int]:
    """How many frames the backbone sees, call by call."""
    seen, forward = [], model.backbone.forward
    monkeypatch.setattr(model.backbone, "forward", lambda video: seen.append(len(video)) or forward(video))
    return seen


def outputs(model: Interpreter, clips: list[Clip]) -> list[Tensor]:
    return [x for clip in clips for output in [model(clip)] for x in (output.target, output.recon)]


def test_kept_slots_are_the_same_bits(monkeypatch) -> None:
    """Whatever the batches are made of, and however much fits."""
    clips = []
    for key in range(8):
        clip = clip_of(4, said=True)
        order = torch.randperm(4, generator=torch.Generator().manual_seed(key))[: 1 + key % 4]
        names = tuple(clip.names[i] for i in order)
        rows = {f: getattr(clip, f)[order] for f in ("video", "valid", "frames", "flipped")}
        clips.append(Clip(names=names, key=torch.tensor([seed % 3 for seed in range(len(order))]), **rows))
    found = {}
    for megabytes in (0, 200):
        model = begin(make(f"model.cache_mb={megabytes}"), "video")
        found[megabytes] = outputs(model, clips)
        seen = counted(model, monkeypatch)
        again = outputs(model, clips)
        assert (sum(seen) == 0) == (megabytes > 0)
        found[-1 - megabytes] = again
    model = begin(make("model.cache_mb=1"), "video")
    model.cache.limit_bytes = 20 * 7 * 12 * 4  # 20 frames of about 60
    found["some"] = outputs(model, clips)
    assert 0 < model.cache.used_bytes <= model.cache.limit_bytes
    for other in found.values():
        assert all(torch.equal(a, b) for a, b in zip(other, found[0], strict=True))


def test_a_frame_has_few_noises_and_each_is_kept() -> None:
    clip = clip_of(1, said=True)
    model = begin(make("model.noise_seeds=2"), "video")
    targets = [model(dataclasses.replace(clip, key=torch.tensor([key]))).target[0, 3] for key in range(20)]
    assert len({tuple(target.flatten().tolist()) for target in targets}) == 2
    free = begin(make("model.noise_seeds=null"), "video")
    targets = [free(dataclasses.replace(clip, key=torch.tensor([key]))).target[0, 3] for key in range(20)]
    assert len({tuple(target.flatten().tolist()) for target in targets}) == 20
    assert free.cache.used_bytes == 0


def test_slots_are_kept_by_what_the_frame_shows_and_not_without_its_number() -> None:
    model, clip = begin(make(), "video"), clip_of(1, said=True)
    first = model(clip).target
    crop = dataclasses.replace(clip, video=clip.video.roll(3, dims=-1) * 0.9)
    fresh = begin(make("model.cache_mb=0"), "video")
    assert torch.equal(model(crop).target, fresh(crop).target)
    assert torch.equal(model(clip).target, first)
    mirrored = dataclasses.replace(clip, flipped=torch.tensor([True]))
    assert not torch.equal(model(mirrored).target, first)  # noise of its own
    model.cache.clear()
    model(dataclasses.replace(clip, frames=None))
    model(dataclasses.replace(clip, flipped=None))
    assert model.cache.used_bytes == 0


def test_kept_slots_go_when_the_image_level_changes() -> None:
    model, clip = begin(make(), "video"), clip_of(1, said=True)
    first = model(clip).target
    with torch.no_grad():
        model.image.corrector.to_q.weight.mul_(1.5)
    changed = model(clip).target
    assert not torch.equal(changed, first)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert not any("cache" in name for name in weights)
    with torch.no_grad():
        model.video.to_nothing = None
        for p in model.video.parameters():
            p.add_(0.01)
    used = model.cache.used_bytes
    model(clip)
    assert model.cache.used_bytes == used  # the video level's weights do not matter
    other = begin(make(), "video")
    other(clip)
    other.load_state_dict(weights)
    assert torch.equal(other(clip).target, changed)


# ------------------------------------------------------------------------------------ learning


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


# ------------------------------------------------------------------------------------ mistakes


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
