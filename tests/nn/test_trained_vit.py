"""Options of vision transformers that train: stochastic depth, and the position code as DINO resamples it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from vocl import assemble
from vocl.config.compose import composed
from vocl.errors import UserError
from vocl.interface import Backbone, Grid
from vocl.nn.backbones.position_code import resample_as_dino

KEY = torch.tensor([3, 4])


def backbone(*overrides: str, px: tuple[int, int] = (56, 56)) -> Backbone:
    settings = ["backbone=tiny_vit", "backbone.keys=true", "backbone.trainable=true", "backbone.depth=4"]
    settings += ["backbone.block=4", f"dataset.size_px=[{px[0]},{px[1]}]"]
    return assemble.make_backbone(composed([*settings, *overrides]), px, None)


def video(px: tuple[int, int] = (56, 56), batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, 3, *px, generator=torch.Generator().manual_seed(0))


def test_stochastic_depth_is_off_at_test_and_a_function_of_the_keys_in_training():
    model = backbone("backbone.drop_path=0.5")
    whole = backbone().train()(video())
    assert torch.equal(model.eval()(video()).tokens, whole.tokens)
    model.train()
    torch.manual_seed(0)
    first = model(video(), key=KEY)
    torch.manual_seed(1)
    again = model(video(), key=KEY)
    assert torch.equal(first.tokens, again.tokens) and torch.equal(first.keys, again.keys)
    assert not torch.allclose(first.tokens, whole.tokens)
    alone = model(video()[1:], key=KEY[1:])  # no other clip of the batch has a say
    torch.testing.assert_close(alone.tokens, first.tokens[1:])
    assert not torch.allclose(model(video(), key=KEY + 1).tokens, first.tokens)


def test_a_branch_is_left_out_of_whole_frames_at_a_rate_that_grows_to_the_last_block():
    model = backbone("backbone.drop_path=0.6").train()
    outputs = {}
    for i, block in enumerate(model.vit.blocks):
        block.ls1.register_forward_hook(lambda _, __, out, i=i: outputs.setdefault(f"{i}.before", out))
        block.norm2.register_forward_pre_hook(lambda _, x, i=i: outputs.setdefault(f"{i}.after", x[0]))
        block.norm1.register_forward_pre_hook(lambda _, x, i=i: outputs.setdefault(f"{i}.into", x[0]))
    model(video(batch=200), key=torch.arange(200))
    for i, rate in enumerate((0.0, 0.2, 0.4, 0.6)):
        branch = outputs[f"{i}.after"] - outputs[f"{i}.into"]
        gone = (branch == 0).flatten(1).all(1)
        assert gone.float().mean() == pytest.approx(rate, abs=0.06)
        kept = outputs[f"{i}.before"][~gone] / (1 - rate)
        torch.testing.assert_close(branch[~gone], kept, atol=1e-5, rtol=1e-4)


def test_the_last_of_all_blocks_has_the_rate_even_if_it_is_cut_off():
    assert backbone("backbone.drop_path=0.3", "backbone.block=2").rates == pytest.approx([0.0, 0.1])


def test_a_model_that_gives_no_keys_cannot_train_with_it():
    with pytest.raises(UserError, match=r"backbone\.drop_path=0\.5: this model draws none, choose 0"):
        backbone("backbone.drop_path=0.5").train()(video())


def test_the_position_code_is_as_trained_at_its_own_grid():
    code = torch.randn(1, 16, 8)
    assert resample_as_dino(code, Grid(4, 4)) is code
    dino, timm = (backbone(f"backbone.resample={kind}") for kind in ("dino", "antialiased"))
    torch.testing.assert_close(dino(video()).tokens, timm(video()).tokens)


def weights(length: int, native: int) -> Tensor:
    """Cubic convolution (A = -0.75) at DINO's points: each of `length` from `native`, edges repeated."""
    out, scale, a = torch.zeros(length, native), (length + 0.1) / native, -0.75
    for i in range(length):
        place = (i + 0.5) / scale - 0.5
        for j in range(int(place // 1) - 1, int(place // 1) + 3):
            x = abs(place - j)
            near = (a + 2) * x**3 - (a + 3) * x**2 + 1
            far = a * (x**3 - 5 * x**2 + 8 * x - 4)
            out[i, min(max(j, 0), native - 1)] += near if x <= 1 else far if x < 2 else 0.0
    return out


def test_the_position_code_is_read_at_dinos_points():
    code = torch.randn(1, 36, 5, generator=torch.Generator().manual_seed(0))
    found = resample_as_dino(code, Grid(9, 4))[0].unflatten(0, (9, 4))
    expected = torch.einsum("ir,js,rse->ije", weights(9, 6), weights(4, 6), code[0].unflatten(0, (6, 6)))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_resampling_survives_a_copy_and_knows_other_frames():
    px = (28, 84)
    model = backbone("backbone.resample=dino", px=px).eval()
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.vit.pos_embed.zero_()
        apart = model(video(px)).tokens
        assert not torch.allclose(twin(video(px)).tokens, apart)  # its own code, not the first one's
        assert not torch.allclose(backbone(px=px).eval()(video(px)).tokens, apart)
    assert apart.shape == (2, 3, 12, 48)
