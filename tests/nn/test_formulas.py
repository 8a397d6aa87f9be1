"""The network's parts against the formulas written down directly, in float64, with gradients."""

from __future__ import annotations

import importlib.util
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from vocl.interface import Grid
from vocl.nn.adapters import MLPAdapter
from vocl.nn.blocks import TransformerPredictor
from vocl.nn.decoders.broadcast import BroadcastDecoder, MLPDecoder
from vocl.nn.execution import room
from vocl.nn.slot_attention import SlotAttention
from vocl.nn.slot_init import Gaussian, Learned

GRID = Grid(3, 4)


def _plain():
    path = Path(__file__).parents[2] / "benchmarks" / "plain.py"
    spec = importlib.util.spec_from_file_location("plain", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


plain = _plain()


def _in_double(part: nn.Module) -> nn.Module:
    """`part` in float64, no parameter at 0 or 1."""
    generator = torch.Generator().manual_seed(1)
    for p in part.double().parameters():
        p.data += 0.1 * torch.randn(p.shape, generator=generator, dtype=torch.float64)
    return part


@pytest.fixture
def double(monkeypatch):
    """Parts that pin float32 under autocast keep float64 here."""
    monkeypatch.setattr(torch.Tensor, "float", lambda self: self)


def _assert_same(part: nn.Module, ours, theirs, *inputs: torch.Tensor) -> None:
    """Outputs of both, and the gradients of a random projection of them, agree to 1e-10."""
    found = []
    for run in (ours, theirs):
        part.zero_grad(set_to_none=True)
        leaves = [x.detach().clone().requires_grad_() for x in inputs]
        outputs = run(*leaves)
        generator = torch.Generator().manual_seed(2)
        total = sum((o * torch.randn(o.shape, generator=generator, dtype=o.dtype)).sum() for o in outputs)
        total.backward()
        grads = [x.grad for x in leaves] + [p.grad for p in part.parameters()]
        found.append([*outputs, *grads])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def _randn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("chunk", [1, 250, 1000, 2**20])
@pytest.mark.parametrize("gpu_bytes", [None, 0, 60000])  # keep all states; compute all again; some
def test_mlp_decoder(num_layers: int, chunk: int, gpu_bytes: int | None, monkeypatch) -> None:
    # tiles of one patch, several, one frame, all
    monkeypatch.setattr(room, "CHUNK", dict.fromkeys(room.CHUNK, chunk))
    part = _in_double(MLPDecoder(6, 5, GRID, hidden_dim=8, num_layers=num_layers))
    weights = dict(part.named_parameters())
    slots = _randn(2, 3, 4, 6)
    with nullcontext() if gpu_bytes is None else room.as_gpu(gpu_bytes):
        _assert_same(part, lambda s: part(s)[:2], lambda s: plain.decoder(weights, s), slots)


@pytest.mark.parametrize("gpu_bytes", [0, 60000])
def test_states_that_are_computed_again_are_the_same_to_the_bit(gpu_bytes: int, monkeypatch) -> None:
    monkeypatch.setattr(room, "CHUNK", dict.fromkeys(room.CHUNK, 250))
    part = MLPDecoder(6, 5, GRID, hidden_dim=8, num_layers=3)
    slots = torch.randn(2, 3, 4, 6)

    def gradients(total_bytes: int) -> list[torch.Tensor]:
        part.zero_grad(set_to_none=True)
        with room.as_gpu(total_bytes):
            part(slots).recon.square().sum().backward()
        return [p.grad for p in part.parameters()]

    for some, every in zip(gradients(gpu_bytes), gradients(2**40), strict=True):
        assert torch.equal(some, every)


def test_mlp_decoder_without_reconstruction_gives_the_same_masks() -> None:
    part = MLPDecoder(6, 5, GRID, hidden_dim=8, num_layers=2)
    slots = torch.randn(2, 3, 4, 6)
    with torch.no_grad():
        full, short = part(slots), part(slots, reconstruct=False)
    assert short.recon is None and torch.equal(full.masks, short.masks)
    torch.testing.assert_close(full.masks.sum(2), torch.ones(2, 3, 12))


@pytest.mark.parametrize("mlp_dim", [None, 10])
@pytest.mark.parametrize("hidden", ["normalised", "raw"])
def test_slot_attention(mlp_dim: int | None, hidden: str, double) -> None:
    part = _in_double(SlotAttention(6, first_iterations=3, iterations=2, mlp_dim=mlp_dim, hidden=hidden))
    weights = dict(part.named_parameters())

    def ours(slots, inputs):
        return part(slots, part.prepare(inputs.unsqueeze(1))[:, 0], 3)

    theirs = partial(plain.slot_attention, weights, iterations=3, normalised_hidden=hidden == "normalised")
    _assert_same(part, ours, theirs, _randn(2, 4, 6), _randn(2, 12, 6))


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("logit_scale", ["multiplied", "divided"])
def test_predictor(norm: str, logit_scale: str, double) -> None:
    part = TransformerPredictor(8, num_blocks=2, num_heads=2, ffn_dim=10, norm=norm, logit_scale=logit_scale)
    part = _in_double(part)
    weights = dict(part.named_parameters())
    multiplied = logit_scale == "multiplied"

    def theirs(slots):
        return (plain.predictor(weights, slots, 2, multiplied, norm == "pre"),)

    _assert_same(part, lambda s: (part(s),), theirs, _randn(2, 4, 8))


def test_adapter_also_passes_gradients_to_trained_features() -> None:
    part = _in_double(MLPAdapter(7, 6, GRID, hidden_ratio=2.0))
    weights = dict(part.named_parameters())
    _assert_same(part, lambda x: (part(x),), lambda x: (plain.adapter(weights, x),), _randn(2, 3, 12, 7))


def test_attention_and_predictor_stay_in_float32_under_autocast() -> None:
    corrector = SlotAttention(6, first_iterations=3, iterations=2, mlp_dim=8, hidden="normalised")
    predictor = TransformerPredictor(
        6, num_blocks=1, num_heads=2, ffn_dim=8, norm="pre", logit_scale="multiplied"
    )
    slots, inputs = torch.randn(2, 4, 6), torch.randn(2, 1, 12, 6)

    def run():
        refined, attn = corrector(slots, corrector.prepare(inputs)[:, 0], 2)
        return refined, attn, predictor(refined)

    exact = run()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = run()
    assert all(a.dtype == torch.float32 and torch.equal(a, b) for a, b in zip(exact, mixed, strict=True))


def test_decoder_in_bfloat16_trains_float32_parameters() -> None:
    part = MLPDecoder(6, 5, GRID, hidden_dim=8, num_layers=2)
    slots = torch.randn(2, 3, 4, 6, requires_grad=True)
    exact = part(slots)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = part(slots)
    assert low.masks.dtype == torch.float32
    torch.testing.assert_close(low.masks, exact.masks, atol=0.02, rtol=0)
    low.recon.float().square().mean().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in part.parameters())


def test_broadcast_decoder_shapes() -> None:
    part = BroadcastDecoder(6, 3, Grid(16, 8), channels=4, num_layers=3, num_upsample=2)
    recon, masks, grid = part(torch.randn(2, 3, 4, 6))
    assert recon.shape == (2, 3, 3, 16, 8) and masks.shape == (2, 3, 4, 128) and grid == Grid(16, 8)
    torch.testing.assert_close(masks.sum(2), torch.ones(2, 3, 128))


def test_learned_slots_are_the_same_for_every_clip() -> None:
    slots = Learned(4, 6)(torch.tensor([1, 2]))
    assert slots.shape == (2, 4, 6) and torch.equal(slots[0], slots[1])


def test_gaussian_slots_depend_on_the_clip_alone() -> None:
    part = Gaussian(4, 6)
    one, two = part(torch.tensor([5, 9])), part(torch.tensor([7, 5, 3]))
    assert torch.equal(one[0], two[1])
    assert not torch.equal(one[0], one[1])
