"""timm's vision transformers: weights from a local file, features, and what goes wrong without one."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vocl import assemble
from vocl.commands import verbs
from vocl.config.compose import composed
from vocl.errors import UserError
from vocl.nn.backbones.vit import TimmViT

NAME = "vit_tiny_patch16_224"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A folder with the weights of a small model, and timm's own model with them."""
    import timm

    torch.manual_seed(3)
    vit = timm.create_model(NAME, dynamic_img_size=True).eval()
    root = tmp_path_factory.mktemp("weights")
    save_file({k: v.contiguous() for k, v in vit.state_dict().items()}, root / f"{NAME}.safetensors")
    return root, vit


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No hub at the address, and nothing in its cache."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))


def vit(root: Path | None, px: int, name: str = NAME, **changes) -> TimmViT:
    settings = {"block": 12, "norm": False, "keys": True, "trainable": False}
    settings |= {"drop_path": 0.0, "resample": "antialiased"} | changes
    return TimmViT((px, px), root, name=name, **settings)


@pytest.mark.parametrize(("px", "block"), [(224, 12), (96, 12), (96, 7)])
def test_features_are_those_of_timm_at_any_frame_size(weights, px, block):
    root, reference = weights
    video = torch.randn(1, 2, 3, px, px, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = vit(root, px, block=block).eval()(video)
        expected = reference.forward_intermediates(
            video[0], indices=[block - 1], norm=False, output_fmt="NLC", intermediates_only=True
        )[0]
    assert features.grid == (px // 16, px // 16)
    torch.testing.assert_close(features.tokens[0], expected)
    assert features.keys.shape == features.tokens.shape


def test_final_norm_is_applied_when_asked_for(weights):
    root, reference = weights
    video = torch.randn(1, 1, 3, 64, 64)
    with torch.no_grad():
        plain, normed = (vit(root, 64, norm=norm).eval()(video).tokens for norm in (False, True))
        torch.testing.assert_close(normed, reference.norm(plain))


def test_position_code_stays_at_the_grid_it_was_trained_at():
    own = vit(None, 96).state_dict()
    assert own["vit.pos_embed"].shape == (1, 197, 192)
    assert not [name for name in own if name.startswith(("vit.head", "vit.norm"))]


def test_frozen_unless_trainable(weights):
    root, _ = weights
    assert not any(p.requires_grad for p in vit(root, 64).parameters())
    assert all(p.requires_grad for p in vit(root, 64, trainable=True).parameters())


def test_config_reaches_the_local_file(weights):
    root, reference = weights
    config = composed(["backbone=timm", f"backbone.name={NAME}", f"runtime.weights_root={root}"])
    small = replace(config, dataset=replace(config.dataset, size_px=[48, 48]))
    loaded = assemble.make_model(small, pretrained=True)
    assert torch.equal(loaded.backbone.vit.cls_token, reference.cls_token)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vit_tiny_patch16_223", "similar ones: vit_tiny_patch16_224"),
        ("resnet18", "not a vision transformer"),
    ],
)
def test_names_that_will_not_do(name, message):
    with pytest.raises(UserError, match=message):
        vit(None, 64, name=name)


@pytest.mark.parametrize("damage", ["garbage", "cut", "other names", "other shapes"])
def test_a_file_that_is_not_these_weights_is_refused(weights, tmp_path, damage):
    """Never silently random."""
    root, reference = weights
    path = tmp_path / f"{NAME}.safetensors"
    state = {k: v.contiguous() for k, v in reference.state_dict().items()}
    if damage == "garbage":
        path.write_bytes(b"not tensors at all")
    elif damage == "cut":
        path.write_bytes((root / path.name).read_bytes()[:100_000])
    elif damage == "other names":
        save_file({f"model.{k}": v for k, v in state.items()}, path)
    else:
        save_file(state | {"blocks.3.norm1.weight": torch.ones(7)}, path)
    with pytest.raises(UserError, match=f"{NAME}.safetensors: not the weights"):
        vit(tmp_path, 64)


def test_frames_that_are_no_multiple_of_the_patch():
    with pytest.raises(UserError, match=r"dataset.size_px=\[100, 100\]: no multiple"):
        vit(None, 100)


def test_without_network_or_file_one_line_says_what_to_do(offline, tmp_path, capfd):
    began = time.monotonic()
    assert verbs.fetch(["backbone=dinov2_s14", f"runtime.weights_root={tmp_path}"]) == 2
    assert time.monotonic() - began < 20
    (line,) = capfd.readouterr().err.splitlines()
    assert f"{tmp_path}/vit_small_patch14_dinov2.lvd142m.safetensors" in line
    assert f"vocl fetch vit_small_patch14_dinov2.lvd142m runtime.weights_root={tmp_path}" in line
    assert not list(tmp_path.glob("*.safetensors"))


def test_fetch_of_what_is_there_names_the_file(weights, capsys, offline):
    root, _ = weights
    assert verbs.fetch([NAME, f"runtime.weights_root={root}"]) == 0
    assert capsys.readouterr().out.strip() == str(root / f"{NAME}.safetensors")


def test_fetch_for_a_backbone_without_weights(capsys):
    assert verbs.fetch(["backbone=filters"]) == 2
    assert "needs no weights" in capsys.readouterr().err
