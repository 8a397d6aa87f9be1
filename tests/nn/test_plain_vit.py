"""The transformer of runs without pretrained weights is timm's, bit for bit."""

from __future__ import annotations

import pytest
import torch

from vocl.nn.backbones.plain_vit import PlainViT


@pytest.mark.parametrize("layer_scale", [1.0, None])
@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("height, width", [(56, 56), (28, 56)])
def test_weights_and_tokens_are_those_of_timm(layer_scale, norm, height, width):
    from timm.models.vision_transformer import VisionTransformer

    settings = {"embed_dim": 48, "depth": 3, "num_heads": 2, "init_values": layer_scale, "num_classes": 0}
    torch.manual_seed(3)
    timm = VisionTransformer(img_size=56, patch_size=14, dynamic_img_size=True, **settings)
    torch.manual_seed(3)
    ours = PlainViT(56, 14, 48, 3, 2, layer_scale)
    assert list(ours.state_dict()) == list(timm.state_dict())
    for name, value in timm.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name
    frames = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    asked = {"indices": [1, 2], "norm": norm, "output_fmt": "NLC", "intermediates_only": True}
    for own, other in zip(*(vit.forward_intermediates(frames, **asked) for vit in (ours, timm)), strict=True):
        assert torch.equal(own, other)
