"""Codes of positions, and the transformers that read them, against their formulas."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vocl.errors import UserError
from vocl.interface import Grid
from vocl.nn.blocks import MultiHeadAttention
from vocl.nn.positions import grid_code, sine_cosine
from vocl.nn.transformers import TransformerDecoder, TransformerEncoder

SIZES = {"num_blocks": 2, "num_heads": 2, "ffn_dim": 12}


def test_the_code_of_a_position():
    code = sine_cosine(torch.tensor([0, 3, 1000]), 6)
    rates = [1, 10_000 ** (-1 / 3), 10_000 ** (-2 / 3)]
    for row, position in zip(code, (0, 3, 1000), strict=True):
        expected = [math.sin(position * r) for r in rates] + [math.cos(position * r) for r in rates]
        torch.testing.assert_close(row, torch.tensor(expected), rtol=0, atol=1e-6)
    assert float(sine_cosine(torch.tensor([17]), 768).norm()) == pytest.approx(math.sqrt(384), rel=1e-6)


def test_half_of_a_grids_code_is_the_rows_and_half_the_columns():
    code = grid_code(Grid(3, 5), 8).unflatten(0, (3, 5))
    rows, columns = sine_cosine(torch.arange(3), 4), sine_cosine(torch.arange(5), 4)
    for i in range(3):
        for j in range(5):
            assert torch.equal(code[i, j], torch.cat([rows[i], columns[j]]))


def attend(part: MultiHeadAttention, x: Tensor, memory: Tensor) -> Tensor:
    """Multi-head attention, head by head."""
    dim, heads = x.shape[-1], part.num_heads
    weights, biases = part.qkv.weight.split(dim), part.qkv.bias.split(dim)
    q, k, v = (F.linear(y, w, b) for y, w, b in zip((x, memory, memory), weights, biases, strict=True))
    mixed = []
    for qh, kh, vh in zip(*(y.split(dim // heads, dim=-1) for y in (q, k, v)), strict=True):
        mixed.append((qh @ kh.transpose(-1, -2) / math.sqrt(dim // heads)).softmax(-1) @ vh)
    return part.out_proj(torch.cat(mixed, dim=-1))


def block(part: nn.Module, x: Tensor, memory: Tensor | None) -> Tensor:
    x = x + attend(part.self_attn, part.norm_self(x), part.norm_self(x))
    if memory is not None:
        x = x + attend(part.cross_attn, part.norm_cross(x), memory)
    return x + part.linear2(F.gelu(part.linear1(part.norm_ffn(x))))


def test_the_encoder():
    torch.manual_seed(0)
    part, x = TransformerEncoder(8, **SIZES), torch.randn(2, 7, 8)
    expected = x
    for each in part.blocks:
        expected = block(each, expected, None)
    torch.testing.assert_close(part(x), part.norm(expected))


def test_the_decoder():
    torch.manual_seed(0)
    part, slots, grid = TransformerDecoder(6, 5, dim=8, **SIZES), torch.randn(2, 4, 6), Grid(3, 5)
    memory = part.norm_memory(part.project(slots))
    expected = grid_code(grid, 8).expand(2, -1, -1)
    for each in part.blocks:
        expected = block(each, expected, memory)
    torch.testing.assert_close(part(slots, grid), part.to_target(part.norm(expected)))


def test_the_decoder_does_not_see_slots_out_of_use_nor_the_order_of_the_others():
    torch.manual_seed(0)
    part, slots, grid = TransformerDecoder(6, 5, dim=8, **SIZES), torch.randn(2, 4, 6), Grid(3, 5)
    active = torch.tensor([[True, True, False, False], [True, True, True, True]])
    found = part(slots, grid, active)
    torch.testing.assert_close(found[:1], part(slots[:1, :2], grid))
    torch.testing.assert_close(found[1:], part(slots[1:, [2, 0, 3, 1]], grid))
    assert (found[0, 0] != found[0, 1]).any()


def test_widths_that_do_not_divide_are_refused():
    with pytest.raises(UserError, match="num_heads=3: does not divide the width of the blocks, 8"):
        TransformerEncoder(8, num_blocks=1, num_heads=3, ffn_dim=8)
    with pytest.raises(UserError, match=r"decoder.dim=6: .* choose a multiple of 4"):
        TransformerDecoder(8, 8, dim=6, num_blocks=1, num_heads=2, ffn_dim=8)
