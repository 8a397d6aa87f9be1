"""Backbones that see a part of a frame's patches."""

from __future__ import annotations

import pytest
import torch
from einops import rearrange

from vocl import assemble
from vocl.config.compose import composed
from vocl.errors import UserError
from vocl.interface import Backbone
from vocl.ops.random import subsets

PX = 56


def backbone(name: str, *overrides: str) -> Backbone:
    config = composed([f"backbone={name}", f"dataset.size_px=[{PX},{PX}]", *overrides])
    return assemble.make_backbone(config, (PX, PX), None).eval()


def video():
    return torch.randn(2, 3, 3, PX, PX, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["tiny_vit", "filters"])
def test_to_keep_all_patches_is_the_full_forward_pass(name):
    model = backbone(name)
    full = model(video())
    everything = torch.arange(full.tokens.shape[2]).expand(2, 3, -1)
    torch.testing.assert_close(model(video(), everything).tokens, full.tokens)


def test_the_blocks_see_the_kept_patches_and_the_class_token_alone():
    """By hand: timm's own steps, with the patches left out after the position code."""
    model = backbone("tiny_vit", "backbone.keys=true")
    keep = subsets(torch.tensor([1, 2]), "tokens", 3, 8, 16)
    found = model(video(), keep)
    assert found.tokens.shape == found.keys.shape == (2, 3, 8, 48)
    assert found.grid == (4, 4)
    vit, frames = model.vit, rearrange(video(), "b t c h w -> (b t) c h w")
    x = vit._pos_embed(vit.patch_embed(frames))
    for row, kept in enumerate(rearrange(keep, "b t m -> (b t) m")):
        tokens = x[row : row + 1, [0, *(1 + kept).tolist()]]
        for block in vit.blocks:
            tokens = block(tokens)
        torch.testing.assert_close(found.tokens[row // 3, row % 3], tokens[0, 1:])
    torch.testing.assert_close(model(video()).tokens.shape, torch.Size([2, 3, 16, 48]))  # no trace left


def test_filters_describe_the_kept_patches_as_all_of_them():
    model, keep = backbone("filters"), subsets(torch.tensor([1, 2]), "tokens", 3, 50, 196)
    index = keep.unsqueeze(-1).expand(-1, -1, -1, model.dim)
    assert torch.equal(model(video(), keep).tokens, model(video()).tokens.gather(2, index))


def test_kept_patches_are_unique_ascending_and_of_the_key():
    keep = subsets(torch.tensor([7, 8, 7]), "tokens", 4, 30, 60)
    assert keep.shape == (3, 4, 30)
    assert (keep.diff(dim=-1) > 0).all() and keep.min() >= 0 and keep.max() < 60
    assert torch.equal(keep[0], keep[2]) and not torch.equal(keep[0], keep[1])
    assert not torch.equal(keep[0, 0], keep[0, 1])  # other patches in every frame
    assert torch.equal(subsets(torch.tensor([8]), "tokens", 4, 30, 60)[0], keep[1])
    share = subsets(torch.arange(500), "tokens", 1, 30, 60).flatten().bincount(minlength=60) / 500
    assert share.min() > 0.4 and share.max() < 0.6


@pytest.mark.parametrize("path", ["model.token_drop=0.5"])
def test_a_backbone_that_cannot_is_refused_by_the_check_of_the_config(path):
    with pytest.raises(
        UserError, match=f"{path}: backbone vocl.nn.backbones.cnn.CNN cannot drop tokens; choose 0"
    ):
        composed(["experiment=solv/synthetic", "backbone=cnn"])
    composed(["experiment=solv/synthetic", "backbone=cnn", "model.token_drop=0"])
