"""Binding of slots over time."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vocl.nn.temporal import TemporalBinder

D, K, W = 8, 3, 5


def make(window=W, **changes):
    torch.manual_seed(0)
    settings = {"num_blocks": 2, "num_heads": 2, "ffn_dim": 16, "dropout": 0.1} | changes
    return TemporalBinder(D, window, **settings)


def slots(b=2, t=W):
    return torch.randn(b, t, K, D, generator=torch.Generator().manual_seed(1))


def of_torch(binder):
    """The same weights in PyTorch's own encoder."""
    layer = nn.TransformerEncoderLayer(D, 2, 16, dropout=0.0, batch_first=True)
    encoder = nn.TransformerEncoder(layer, len(binder.blocks), enable_nested_tensor=False)
    for theirs, ours in zip(encoder.layers, binder.blocks, strict=True):
        theirs.self_attn.in_proj_weight.data = ours.self_attn.qkv.weight.data
        theirs.self_attn.in_proj_bias.data = ours.self_attn.qkv.bias.data
        theirs.self_attn.out_proj.load_state_dict(ours.self_attn.out_proj.state_dict())
        for name in ("linear1", "linear2", "norm1", "norm2"):
            getattr(theirs, name).load_state_dict(getattr(ours, name).state_dict())
    return encoder


@pytest.mark.parametrize("missing", [[], [0], [0, 4]])
def test_it_is_pytorchs_encoder_along_time(missing):
    binder, x = make(), slots()
    valid = torch.ones(2, W, dtype=torch.bool)
    valid[:, missing] = False
    found = binder(x, valid, torch.tensor([2]))
    encoder = of_torch(binder)
    for k in range(K):
        expected = encoder(x[:, :, k] + binder.time[:, 0], src_key_padding_mask=~valid)[:, 2]
        torch.testing.assert_close(found[:, 0, k], expected)


def test_frames_that_do_not_exist_change_nothing():
    binder, x = make(), slots()
    valid = torch.ones(2, W, dtype=torch.bool)
    valid[:, 4] = False
    other = x.clone()
    other[:, 4] = 100
    middle = torch.tensor([2])
    torch.testing.assert_close(binder(x, valid, middle), binder(other, valid, middle))


def test_a_frame_at_the_end_of_the_video_is_bound_as_if_the_rest_were_padding():
    binder, x = make(), slots(t=7)
    valid = torch.ones(2, 7, dtype=torch.bool)
    every = binder(x, valid, torch.arange(7))
    for frame in range(7):
        window = torch.zeros(2, W, K, D)
        seen = torch.zeros(2, W, dtype=torch.bool)
        for place, t in enumerate(range(frame - 2, frame + 3)):
            if 0 <= t < 7:
                window[:, place], seen[:, place] = x[:, t], True
        torch.testing.assert_close(every[:, frame], binder(window, seen, torch.tensor([2]))[:, 0])


def test_slots_of_other_indices_are_not_seen():
    binder, x = make(), slots()
    other = x.clone()
    other[:, :, 1] = torch.randn(2, W, D)
    valid, middle = torch.ones(2, W, dtype=torch.bool), torch.tensor([2])
    a, b = binder(x, valid, middle), binder(other, valid, middle)
    torch.testing.assert_close(a[:, :, [0, 2]], b[:, :, [0, 2]])
    assert not torch.allclose(a[:, :, 1], b[:, :, 1])


def test_dropout_is_drawn_from_the_key():
    binder, x = make(dropout=0.5), slots()
    valid, middle, key = torch.ones(2, W, dtype=torch.bool), torch.tensor([2]), torch.tensor([3, 4])
    both = binder(x, valid, middle, key)
    torch.testing.assert_close(both[1:], binder(x[1:], valid[1:], middle, key[1:]))
    assert not torch.allclose(both, binder(x, valid, middle))
    torch.testing.assert_close(make(dropout=0.0)(x, valid, middle, key), binder(x, valid, middle))
