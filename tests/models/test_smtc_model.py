"""SMTC as its config assembles it."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from einops import rearrange
from walks import project

from vocl import assemble
from vocl.config.compose import composed
from vocl.errors import UserError
from vocl.interface import Clip, Features, SegmentOptions
from vocl.models.smtc import SMTC, Carry
from vocl.ops.random import normal

SMALL = (
    "experiment=smtc/ytvos",
    "debug=tiny",
    "model.num_semantics=5",
    "model.num_instances=3",
    "model.attention.threshold=0.0",
)
PAPER = ("experiment=smtc/ytvos_paper", *SMALL[1:])
OPTIONS = SegmentOptions(cyclic=False, iterations=None, seed=0)


def make(*overrides: str, base: tuple[str, ...] = SMALL) -> SMTC:
    torch.manual_seed(0)
    return assemble.make_model(composed([*base, *overrides]), pretrained=False)


def clip_of(batch: int = 2, frames: int = 4, px: tuple[int, int] = (56, 56), views: int = 1) -> Clip:
    generator = torch.Generator().manual_seed(0)
    videos = [torch.randn(batch, frames, 3, *px, generator=generator) for _ in range(1 + views)]
    valid = torch.ones(batch, frames, dtype=torch.bool)
    return Clip(videos[0], valid, torch.arange(batch) + 7, ("a",) * batch, views=tuple(videos[1:]))


def part(clip: Clip, start: int, stop: int, rows: slice = slice(None)) -> Clip:
    views = tuple(view[rows, start:stop] for view in clip.views)
    video = clip.video[rows, start:stop]
    return Clip(video, clip.valid[rows, start:stop], clip.key[rows], clip.names[rows], views=views)


def test_the_presets() -> None:
    torch.manual_seed(0)
    tiny_vit = ["backbone=tiny_vit", "backbone.patch_px=16", "backbone.native_px=224", "backbone.num_heads=6"]
    tiny_vit += ["backbone.depth=1", "backbone.block=1", "backbone.dim=384"]
    for experiment, gru in (("smtc/ytvos", False), ("smtc/ytvos_paper", True)):
        config = composed([f"experiment={experiment}", *tiny_vit])
        model = assemble.make_model(config, pretrained=False)
        shapes = {name: tuple(p.shape) for name, p in model.named_parameters() if p.requires_grad}
        assert shapes["grouping.attention.mean"] == shapes["grouping.attention.log_std"] == (16, 1, 384)
        assert shapes["grouping.correspondence.from_products.weight"] == (384, 256)
        assert shapes["grouping.attention.mlp.0.weight"] == (384, 384)
        assert ("grouping.attention.gru.weight_ih" in shapes) is gru
        assert ("grouping.correspondence.from_features.weight" in shapes) is gru
        assert ("grouping.head.mlp.0.weight" in shapes) is not gru
        assert config.train.batch == 128 and config.dataset.clip_frames == 4
        optimizer = assemble.make_optimizer(config)
        peak = 2e-4 if gru else 2e-5
        rates = [optimizer.rate(step) for step in (0, 5_000, 10_000)]
        assert rates == pytest.approx([peak, 0.55 * peak, 0.1 * peak])
        curriculum = assemble.make_curriculum(config)
        assert curriculum.starts == [0, 3000]
        names = ("backbone.vit.cls_token", "grouping.attention.mean")
        assert [curriculum.trains(name, 0) for name in names] == [False, True]
        assert [curriculum.factor(name, 3000) for name in names] == [0.01, 1.0]
        sampling = config.dataset.sampling
        assert sampling["stored_fps"] == 30 if gru else sampling["gap"] == 4
        assert config.dataset.views == 1 and config.dataset.flip == (0.5 if gru else 0)


def test_what_no_decoder_is_needed_for() -> None:
    model, clip = make(), clip_of()
    output = model(clip)
    given = {f.name for f in dataclasses.fields(output) if getattr(output, f.name) is not None}
    assert given == {name for name in model.provides if "." not in name} | {"grid"}
    teachers = {name.removeprefix("teacher.") for name in model.provides if name.startswith("teacher.")}
    assert all(getattr(output.teacher, name) is not None for name in teachers)
    assert output.slots.shape == (2, 4, 15, 48) and output.objects.shape == (2, 4, 5, 3, 48)
    assert output.valid.shape == (2, 4, 5, 3) and output.valid.dtype == torch.bool
    torch.testing.assert_close(output.attn.sum(2), torch.ones(2, 4, 16))
    within = rearrange(output.attn, "b t (n p) x -> b t n p x", p=3)
    torch.testing.assert_close(within.sum(3), output.semantic_masks)
    assert torch.equal(output.features, output.keys)
    torch.testing.assert_close(output.objects.norm(dim=-1), torch.ones(2, 4, 5, 3))
    tokens = make("model.keys=false")(clip)
    assert not torch.allclose(tokens.features, tokens.keys)
    slots = make(base=PAPER)(clip)  # without a head
    assert torch.equal(slots.objects.flatten(2, 3), slots.slots)


def test_forward_is_student_and_teacher_each_with_view_and_noise_of_their_own() -> None:
    model, clip = make("backbone.drop_path=0"), clip_of()
    with torch.no_grad():
        for p in model.teacher.parameters():
            p.add_(0.01)  # as if it had lagged behind
    output = model(clip)
    shape = (4, 5, 3, 48)
    partners = torch.tensor([[3, 0, 1, 2]] * 2)
    noise = {who: normal(clip.key, f"{who}.instances", shape) for who in ("student", "teacher")}
    assert not torch.equal(noise["student"], noise["teacher"])
    student = model.group(model.grouping, model.backbone(clip.video), noise["student"], partners)
    seen = model.teacher.backbone(clip.views[0])
    teacher = model.group(model.teacher.grouping, seen, noise["teacher"], partners)
    for name in ("slots", "attn", "objects", "semantic_logits", "features"):
        torch.testing.assert_close(getattr(output, name), getattr(student, name))
        torch.testing.assert_close(getattr(output.teacher, name), getattr(teacher, name))
    without = dataclasses.replace(clip, views=())
    same = model.teacher.backbone(clip.video)
    assert torch.equal(model(without).teacher.features, same.keys)


def test_all_noise_comes_from_the_clips_key() -> None:
    for base in (SMALL, PAPER):
        model, clip = make(base=base).train(), clip_of()
        torch.manual_seed(1)
        first = model(clip)
        torch.manual_seed(2)
        second = model(clip)
        assert torch.equal(first.slots, second.slots) and torch.equal(
            first.teacher.slots, second.teacher.slots
        )
        alone = model(part(clip, 0, 4, slice(1, 2)))
        torch.testing.assert_close(alone.slots[0], first.slots[1], atol=1e-4, rtol=1e-4)
        clip.key += 1
        third = model(clip)
        assert not torch.allclose(first.slots, third.slots)
        assert not torch.allclose(first.teacher.slots, third.teacher.slots)


def test_a_frame_is_compared_with_its_partner_alone() -> None:
    model, clip = make().eval(), clip_of(1)
    before = model(clip).semantic_logits
    clip.video[:, 1] += 1
    after = model(clip).semantic_logits
    changed = [not torch.allclose(before[:, t], after[:, t]) for t in range(4)]
    assert changed == [False, True, True, False]
    clip.video[:, 3] += 1
    assert not torch.allclose(model(clip).semantic_logits[:, 0], after[:, 0])  # the first and the last


@pytest.mark.parametrize("base", [SMALL, PAPER])
def test_every_parameter_of_the_student_and_none_of_the_teacher_learns(base) -> None:
    everything = ("model.valid.binarise=0", "model.valid.min_cosine=-1")  # is valid
    model, clip = make(*everything, base=base), clip_of()
    objective = assemble.make_objective(composed(list(base)))
    output = model(clip)
    sum(term.loss(output, clip) for term in objective.terms.values()).backward()
    silent = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    unused = ("attn.proj", "norm2", "mlp", "ls")  # of the last block, behind its keys
    assert all(
        name.startswith("backbone.vit.blocks.1.") and any(u in name for u in unused) for name in silent
    )
    assert silent
    assert all(p.grad is None and not p.requires_grad for p in model.teacher.parameters())
    deviation, mean = (getattr(model.grouping.attention, name).grad for name in ("log_std", "mean"))
    assert deviation.any() == (base == PAPER) and mean.any()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_the_teacher_follows_and_does_not_train() -> None:
    for base, follows in ((SMALL, False), (PAPER, True)):
        model = make(base=base).train()
        assert not any(module.training for module in model.teacher.modules()) and model.backbone.training
        students = dict(model.named_parameters())
        for name, own in model.teacher.named_parameters():
            assert torch.equal(own, students[name]), name
        with torch.no_grad():
            for name, p in model.named_parameters():
                if not name.startswith("teacher."):
                    p.add_(1)
        before = {name: p.clone() for name, p in model.teacher.named_parameters()}
        model.after_step(0)
        for name, own in model.teacher.named_parameters():
            if name.startswith("backbone.") and not follows:
                assert torch.equal(own, before[name])
            else:
                expected = 0.999 * before[name] + 0.001 * students[name]
                torch.testing.assert_close(own.detach(), expected.detach(), msg=name)


def test_features_of_a_clip_are_used() -> None:
    model, clip = make("backbone.drop_path=0").eval(), clip_of(views=0)
    seen = model.backbone(clip.video)
    given = dataclasses.replace(clip, features=Features(2 * seen.tokens, seen.grid, 2 * seen.keys))
    output = model(given)
    assert torch.equal(output.features, 2 * seen.keys) and torch.equal(output.teacher.features, 2 * seen.keys)
    assert torch.equal(model.embed(given), 2 * seen.tokens)
    assert torch.equal(model.embed(clip), seen.tokens)
    assert not torch.equal(model.segment(given, OPTIONS).masks, model.segment(clip, OPTIONS).masks)


def test_with_features_no_frame_is_looked_at() -> None:
    model, clip = make("backbone.drop_path=0").eval(), clip_of(1, 6, views=0)
    assert model.reads_features and not model.reads_video
    given = dataclasses.replace(clip, features=model.backbone(clip.video), video=None)
    for name in ("slots", "objects", "semantic_logits"):
        ours, theirs = model(given), model(clip)
        assert torch.equal(getattr(ours, name), getattr(theirs, name))
        assert torch.equal(getattr(ours.teacher, name), getattr(theirs.teacher, name))
    assert torch.equal(model.segment(given, OPTIONS).masks, model.segment(clip, OPTIONS).masks)
    assert torch.equal(model.embed(given), model.embed(clip))


# ------------------------------------------------------------------------------------------- at test


def filled_up(model: SMTC, clip: Clip) -> torch.Tensor:
    """Masks as the release makes them: whole windows, the last filled up with the video's last frames."""
    frames, window, found = clip.video.shape[1], model.window, []
    noise = normal(clip.key, "instances", model.noise_shape)
    noise = noise.unsqueeze(1).expand(-1, window, -1, -1, -1)
    for start in range(0, frames, window):
        indices = list(range(start, min(start + window, frames)))
        kept = len(indices)
        indices += list(range(frames - window + kept, frames))
        seen, partners = model.backbone(clip.video[:, indices]), torch.arange(window).roll(1).unsqueeze(0)
        with torch.no_grad():
            found.append(model.group(model.grouping, seen, noise, partners).attn[:, :kept])
    return torch.cat(found, dim=1)


@pytest.mark.parametrize("frames", [4, 6, 8, 9, 11])
def test_a_video_is_cut_into_windows_and_the_last_is_filled_up(frames) -> None:
    model, clip = make().eval(), clip_of(1, frames, views=0)
    found = model.segment(clip, OPTIONS)
    torch.testing.assert_close(found.masks, filled_up(model, clip))
    torch.testing.assert_close(found.masks.sum(2), torch.ones(1, frames, 16))
    assert found.exclusive and found.parent.tolist() == [n for n in range(5) for _ in range(3)]
    assert found.slots.shape == (1, frames, 15, 48) and found.scores.shape == (1, frames, 15)
    slots = rearrange(found.slots, "b t (n p) d -> b t n p d", p=3)
    first = model.group_window(
        model.backbone(clip.video[:, :4]), model._noise_at_test(clip.key, range(4)), Carry()
    )
    semantics = first[0].semantics.unsqueeze(3).expand(-1, -1, -1, 3, -1)
    expected = torch.nn.functional.cosine_similarity(slots[:, :4], semantics, dim=-1)
    torch.testing.assert_close(found.scores[:, :4], expected.flatten(2).detach())


@pytest.mark.parametrize("noise", ["video", "frame"])
@pytest.mark.parametrize("sizes", [(4, 4, 1), (8, 1), (4, 5)])
def test_calls_of_whole_windows_continue_each_other(sizes, noise) -> None:
    model, clip = make(f"model.noise_at_test={noise}").eval(), clip_of(1, sum(sizes), views=0)
    whole, carry, start, found = model.segment(clip, OPTIONS), None, 0, []
    for size in sizes:
        segments = model.segment(part(clip, start, start + size), OPTIONS, carry)
        carry, start = segments.carry, start + size
        found.append(segments.masks)
    torch.testing.assert_close(torch.cat(found, dim=1), whole.masks)


def test_calls_that_cut_a_window_differ_in_its_first_frame_alone() -> None:
    model, clip = make().eval(), clip_of(1, 8, views=0)
    whole = model.segment(clip, OPTIONS).masks
    first = model.segment(part(clip, 0, 6), OPTIONS)
    second = model.segment(part(clip, 6, 8), OPTIONS, first.carry)
    cut = torch.cat([first.masks, second.masks], dim=1)
    same = [torch.allclose(cut[:, t], whole[:, t], atol=1e-6) for t in range(8)]
    assert same == [True, True, True, True, False, True, True, True]
    torch.testing.assert_close(first.masks, filled_up(model, part(clip, 0, 6)))


def test_noise_at_test() -> None:
    video, frame = (make(f"model.noise_at_test={kind}").eval() for kind in ("video", "frame"))
    still = clip_of(1, 8, views=0)
    still.video[:] = still.video[:, :1].clone()
    same, other = video.segment(still, OPTIONS).masks, frame.segment(still, OPTIONS).masks
    torch.testing.assert_close(same[:, :1].expand_as(same), same)
    assert not torch.allclose(other[:, 0], other[:, 1]) and not torch.allclose(other[:, 0], other[:, 4])
    semantic = rearrange(other, "b t (n p) x -> b t n p x", p=3).sum(3)
    torch.testing.assert_close(semantic[:, :1].expand_as(semantic), semantic)
    again = frame.segment(still, OPTIONS).masks
    assert torch.equal(other, again)


def test_other_sizes_and_iterations() -> None:
    model = make().eval()
    wide = model.segment(clip_of(1, 5, (56, 84), 0), OPTIONS)
    assert wide.masks.shape == (1, 5, 15, 24) and wide.grid == (4, 6)
    assert model.embed(clip_of(1, 5, (56, 84), 0)).shape == (1, 5, 24, 48)
    clip = clip_of(1, views=0)
    more = SegmentOptions(cyclic=False, iterations=5, seed=0)
    assert not torch.allclose(model.segment(clip, OPTIONS).masks, model.segment(clip, more).masks)
    three = SegmentOptions(cyclic=True, iterations=3, seed=0)
    assert torch.equal(model.segment(clip, OPTIONS).masks, model.segment(clip, three).masks)


# ------------------------------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["backbone.keys=false"], r"model\.keys=True: backbone .*RandomViT gives none; choose false"),
        (
            ["model=smtc_paper"],
            r"model\.preset=paper, loss\.transport\.preset=release.*two presets in one run",
        ),
        (
            ["loss=[transport,instance_paper]"],
            r"model\.preset=release, .*instance_paper\.preset=paper: two pres",
        ),
        (["loss=[feature_mse]"], "loss.feature_mse: needs recon, target, which model .* does not provide"),
        (["dataset.clip_frames=1"], "dataset.clip_frames=1: loss.transport needs at least 2"),
        (["model.slot_dim=16"], r"model\.slot_dim=16: the features are 48 wide"),
        (["loss.transport.epsilon=0.01"], "loss.transport.epsilon=0.01: out of range"),
    ],
)
def test_bad_values_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(*overrides)


TUBELETS = """from typing import ClassVar

from vocl.nn.backbones.filters import Filters


class Tubelets(Filters):
    frames_per_token: ClassVar[int] = 2
"""


def test_tokens_that_span_several_frames_are_refused_by_a_plan(tmp_path) -> None:
    ours = project(tmp_path)
    (ours / "mine" / "tubelets.py").write_text(TUBELETS)
    asked = [f"project={ours}", "backbone=filters", "backbone._target_=mine.tubelets.Tubelets"]
    with pytest.raises(UserError, match=r"backbone\._target_=mine\.tubelets\.Tubelets: its tokens span 2"):
        composed([*asked, "experiment=smtc/synthetic"])
    composed(asked)


def test_a_stage_cannot_train_a_frozen_backbone() -> None:
    config = composed([*SMALL, "backbone.trainable=false"])
    model = assemble.make_model(config, pretrained=False)
    named = {n: p for n, p in model.named_parameters() if p.requires_grad}
    with pytest.raises(UserError, match=r"stages\.all\.lr: 'backbone\.\*' matches no parameter"):
        assemble.make_curriculum(config).check(named)


def test_presets_may_differ_where_it_is_said() -> None:
    config = composed([*SMALL, "loss=[transport,instance_paper]", "loss.instance_paper.preset=null"])
    assert config.loss["instance_paper"].part["form"] == "l2"


def test_a_stage_cannot_leave_out_slots() -> None:
    config = composed([*SMALL, "curriculum.stages.grouping.active_slots=2"])
    model = assemble.make_model(config, pretrained=False)
    with pytest.raises(UserError, match="active_slots=2 of a stage"):
        model.begin(assemble.make_curriculum(config).stages[0], 0)
