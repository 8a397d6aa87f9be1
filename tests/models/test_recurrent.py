"""The recurrent model as the configs assemble it."""

from __future__ import annotations

import pytest
import torch

from vocl import assemble
from vocl.config.compose import composed
from vocl.curriculum import Stage
from vocl.interface import Clip, SegmentOptions, VideoModel

TINY_VIT = ["backbone=tiny_vit", "backbone.depth=1", "backbone.block=1", "backbone.num_heads=6"]
SMALL = ["dataset.size_px=[56,56]", "backbone=tiny_vit"]


def _model(*overrides: str) -> VideoModel:
    torch.manual_seed(0)
    return assemble.make_model(composed(overrides), pretrained=False)


def _clip(batch: int = 2, frames: int = 2, px: int = 56) -> Clip:
    video = torch.randn(batch, frames, 3, px, px, generator=torch.Generator().manual_seed(0))
    return Clip(video, torch.ones(batch, frames, dtype=torch.bool), torch.arange(batch), ("a",) * batch)


def _options(iterations: int | None = None) -> SegmentOptions:
    return SegmentOptions(cyclic=False, iterations=iterations, seed=0)


@pytest.mark.parametrize(
    ("experiment", "dim", "expected"),
    [("movi_c", 384, 3_064_321), ("movi_e", 768, 4_953_601), ("ytvis2021", 768, 4_443_841)],
)
def test_published_settings_have_the_published_number_of_parameters(experiment, dim, expected) -> None:
    model = _model(f"experiment=slotcontrast/{experiment}", *TINY_VIT, f"backbone.dim={dim}")
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == expected


@pytest.mark.parametrize("method", ["slotcontrast", "dinosaur", "savi"])
def test_every_trainable_parameter_gets_a_gradient(method: str) -> None:
    frames = 1 if method == "dinosaur" else 3
    backbone = ["backbone=cnn"] if method == "savi" else SMALL[1:]
    model = _model(f"experiment={method}/synthetic", SMALL[0], *backbone)
    clip = _clip(frames=frames)
    output = model(clip)
    for name in model.provides:
        assert getattr(output, name) is not None
    assert output.recon.shape == output.target.shape
    torch.testing.assert_close(output.masks.sum(2), torch.ones_like(output.masks[:, :, 0]))
    ((output.recon - output.target).square().mean() + output.slots.square().mean()).backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []


def test_a_stage_trains_its_number_of_slots_and_segment_uses_all() -> None:
    model = _model(*SMALL, "model.num_slots=5")
    clip = _clip()
    model.begin(_stage(3), 0)
    assert model(clip).slots.shape[2] == 3
    assert model.segment(clip, _options()).masks.shape[2] == 5
    model.begin(_stage(None), 1)
    assert model(clip).slots.shape[2] == 5


def test_the_iterations_option_replaces_those_of_training() -> None:
    model = _model(*SMALL).eval()
    clip = _clip()
    default, as_trained = model.segment(clip, _options()).masks, model.segment(clip, _options(2)).masks
    assert not torch.equal(default[:, 0], as_trained[:, 0])  # the first frame trains with 3
    model.corrector.first_iterations = 2
    assert torch.equal(model.segment(clip, _options()).masks, as_trained)


def test_segment_agrees_with_forward_and_continues_from_its_carry() -> None:
    model = _model(*SMALL).eval()
    clip = _clip(frames=4)
    whole = model.segment(clip, _options())
    torch.testing.assert_close(whole.masks, model(clip).masks)
    first = model.segment(_window(clip, 0, 2), _options())
    second = model.segment(_window(clip, 2, 4), _options(), first.carry)
    torch.testing.assert_close(torch.cat([first.masks, second.masks], dim=1), whole.masks)


def test_without_a_predictor_the_state_is_carried_as_it_is() -> None:
    output = _model(*SMALL, "model.predictor=null")(_clip())
    assert torch.equal(output.predicted, output.slots)


def test_a_step_in_bfloat16_is_close_to_one_in_float32() -> None:
    model, clip = _model(*SMALL), _clip()
    exact = model(clip)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = model(clip)
    assert low.slots.dtype == low.attn.dtype == low.masks.dtype == torch.float32
    torch.testing.assert_close(low.recon.float(), exact.recon, atol=0.05, rtol=0.05)
    low.recon.float().square().mean().backward()


def _window(clip: Clip, start: int, stop: int) -> Clip:
    return Clip(clip.video[:, start:stop], clip.valid[:, start:stop], clip.key, clip.names)


def _stage(active: int | None) -> Stage:
    rest = {"rate": None, "lr": {}, "weight_decay": {}, "feed": None, "enter": []}
    return Stage(length=1.0, train="all", terms="all", active_slots=active, **rest)
