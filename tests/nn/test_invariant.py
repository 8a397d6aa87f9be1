"""Invariant slot attention and its decoder against the formulas written out."""

from __future__ import annotations

import math
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F

from vocl.interface import Grid
from vocl.nn.decoders.invariant import InvariantDecoder
from vocl.nn.execution import room
from vocl.nn.invariant import InvariantSlotAttention, centred_grid, pose, relative

GRID = Grid(3, 4)
K, D, N = 3, 8, 12


def make(**changes):
    torch.manual_seed(0)
    settings = {"iterations": 3, "mlp_dim": 16, "dropout": 0.1, "min_scale": None} | changes
    return InvariantSlotAttention(K, D, GRID, **settings).double()


def inputs(frames=2):
    g = torch.Generator().manual_seed(1)
    slots = torch.randn(1, K, D, generator=g, dtype=torch.float64)
    features = torch.randn(1, frames, N, D, generator=g, dtype=torch.float64)
    return slots, features, centred_grid(GRID).double().expand(1, frames, N, 2)


def by_hand(module, slots, features, grid, iterations=3):
    """One frame, slot by slot and patch by patch, with keys and values as they are written."""
    x = F.layer_norm(features, (D,), module.norm_features.weight, module.norm_features.bias)
    p, s = list(module.position), list(module.scale)
    slots = list(slots)
    for i in range(iterations + 1):
        logits, values = torch.zeros(K, N, dtype=x.dtype), torch.zeros(K, N, D, dtype=x.dtype)
        for k in range(K):
            normed = module.norm_slots(slots[k])
            for n in range(N):
                r = module.relate((grid[n] - p[k]) / (5 * s[k]))
                key = module.shared(module.to_k.weight @ x[n] + r)
                values[k, n] = module.shared(module.to_v.weight @ x[n] + r)
                logits[k, n] = (module.to_q.weight @ normed) @ key / math.sqrt(D)
        attn = logits.softmax(0)
        weights = (attn + 1e-8) / (attn + 1e-8).sum(1, keepdim=True)
        for k in range(K):
            p[k] = sum(weights[k, n] * grid[n] for n in range(N))
            s[k] = sum(weights[k, n] * (grid[n] - p[k]) ** 2 for n in range(N)).sqrt()
            if i < iterations:
                new = module.gru((weights[k] @ values[k])[None], slots[k][None])[0]
                slots[k] = new + module.mlp(module.norm_mlp(new))
    return torch.stack([module.to_slots(module.norm_slots(slot)) for slot in slots]), attn, weights


@pytest.fixture
def float64(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "float", lambda x: x)


def test_the_rounds_are_the_formula(float64):
    module, (slots, features, grid) = make(), inputs()
    found = module(slots, features, grid)
    for t in range(2):
        for ours, theirs in zip(found, by_hand(module, slots[0], features[0, t], grid[0, t]), strict=True):
            torch.testing.assert_close(ours[0, t], theirs, rtol=1e-6, atol=1e-9)


def test_the_gradients_are_the_formulas(float64):
    module, (slots, features, grid) = make(iterations=1), inputs(1)
    names = [n for n, _ in module.named_parameters() if n != "grid"]
    module(slots, features, grid).slots.square().sum().backward()
    ours = {n: p.grad.clone() for n, p in module.named_parameters() if n in names}
    module.zero_grad()
    by_hand(module, slots[0], features[0, 0], grid[0, 0], 1)[0].square().sum().backward()
    for name in names:
        torch.testing.assert_close(
            ours[name], module.get_parameter(name).grad, rtol=1e-5, atol=1e-9, msg=name
        )


def test_attention_sums_to_one_over_slots_and_weights_over_patches():
    found = make().float()(*(x.float() for x in inputs()))
    torch.testing.assert_close(found.attn.sum(2), torch.ones(1, 2, N))
    torch.testing.assert_close(found.weights.sum(3), torch.ones(1, 2, K))


def test_the_last_round_changes_attention_and_not_the_slots(float64):
    """Slots after 2 rounds come out alike whether they are read then or enter a third one."""
    module, (slots, features, grid) = make(), inputs(1)
    seen = []
    module.gru.register_forward_hook(lambda _, args, out: seen.append(out))
    found = module(slots, features, grid)
    assert len(seen) == 3
    state = seen[-1] + module.mlp(module.norm_mlp(seen[-1]))
    torch.testing.assert_close(found.slots[0, 0], module.to_slots(module.norm_slots(state)))
    two = module(slots, features, grid, 2)
    assert not torch.equal(two.attn, found.attn)


def test_moving_and_scaling_the_grid_with_the_slots_changes_nothing():
    grid = centred_grid(GRID).double()[None]
    p, s = torch.randn(1, K, 2).double(), torch.rand(1, K, 2).double() + 0.1
    shift, factor = torch.tensor([0.7, -2.0]).double(), torch.tensor([3.0, 0.5]).double()
    moved = relative(grid * factor + shift, p * factor + shift, s * factor)
    torch.testing.assert_close(moved, relative(grid, p, s))


def test_the_grid_is_x_then_y_row_by_row():
    grid = centred_grid(GRID)
    assert grid[0].tolist() == [-1, -1]
    assert grid[3].tolist() == [1, -1]
    assert grid[4].tolist() == [-1, 0]


def test_a_pose_is_centroid_and_standard_deviation():
    weights = torch.zeros(1, 2, N)
    weights[0, 0, [0, 3]] = 0.5  # the upper corners: mean (0, -1), deviation (1, 0)
    weights[0, 1] = 1 / N
    p, s = pose(weights, centred_grid(GRID)[None])
    assert p[0, 0].tolist() == [0, -1] and s[0, 0].tolist() == [1, 0]
    torch.testing.assert_close(s[0, 1], centred_grid(GRID).std(0, correction=0))


def test_a_lower_bound_holds_for_scales_of_either_sign():
    module = make(min_scale=1e-3)
    assert (module.scale < 0).any()
    _, bounded = module.bounded(module.position, module.scale)
    assert bounded.min() == 1e-3
    assert make().bounded(module.position, module.scale)[1] is module.scale


def test_dropout_is_drawn_from_the_key():
    module = make(dropout=0.5).float()
    slots, features, grid = (x.float().expand(2, *x.shape[1:]) for x in inputs())
    key = torch.tensor([5, 6])
    both = module(slots, features, grid, key=key).slots
    alone = module(slots[1:], features[1:], grid[1:], key=key[1:]).slots
    torch.testing.assert_close(both[1:], alone)
    assert not torch.allclose(both[0], both[1])
    assert not torch.allclose(both[0, 0], module(slots, features, grid).slots[0, 0])


def test_the_decoder_is_the_formula():
    torch.manual_seed(0)
    decoder = InvariantDecoder(D, 5, GRID, hidden_dim=7, num_layers=2).double()
    torch.nn.init.normal_(decoder.mlp[-1].bias)
    slots, place = torch.randn(2, 1, K, D).double(), torch.randn(2, 1, K, N, 2).double()
    active = torch.tensor([[[True, True, False]], [[True, True, True]]])
    found = decoder(slots, place, active)
    for b in range(2):
        used = [k for k in range(K) if active[b, 0, k]]
        out = torch.stack(
            [decoder.mlp(slots[b, 0, k] + decoder.pos_emb + decoder.relate(place[b, 0, k])) for k in used]
        )
        masks = out[..., 5].softmax(0)
        torch.testing.assert_close(found.masks[b, 0, used], masks.to(found.masks), atol=1e-6, rtol=1e-5)
        recon = (masks.unsqueeze(-1) * out[..., :5]).sum(0)
        torch.testing.assert_close(found.recon[b, 0], recon, atol=1e-6, rtol=1e-5)
    assert (found.masks[0, 0, 2] == 0).all()
    torch.testing.assert_close(found.masks.sum(2), torch.ones_like(found.masks[:, :, 0]))
    assert decoder(slots, place, active, reconstruct=False).recon is None


@pytest.mark.parametrize("gpu_bytes", [None, 0, 6000])  # keep all states; compute all again; some
@pytest.mark.parametrize("chunk", [1, 60, 2**20])  # values at a time: tiles of one patch, a few, all
def test_gradients_of_the_decoder_are_those_of_the_formula(gpu_bytes, chunk, monkeypatch) -> None:
    monkeypatch.setattr(room, "CHUNK", dict.fromkeys(room.CHUNK, chunk))
    torch.manual_seed(0)
    decoder = InvariantDecoder(D, 5, GRID, hidden_dim=7, num_layers=3).double()
    slots = torch.randn(2, 2, K, D).double().requires_grad_()
    place = torch.randn(2, 2, K, N, 2).double().requires_grad_()
    active = torch.rand(2, 2, K) < 0.6
    active[..., 0] = True
    leaves = [slots, place, *decoder.parameters()]

    def formula():
        out = decoder.mlp(slots.unsqueeze(-2) + decoder.pos_emb + decoder.relate(place))
        masks = out[..., 5].masked_fill(~active.unsqueeze(-1), -torch.inf).softmax(2)
        return (masks.unsqueeze(-1) * out[..., :5]).sum(2), masks

    def gradients(recon, masks):
        return torch.autograd.grad(recon.sin().sum() + masks.square().sum(), leaves, allow_unused=True)

    with nullcontext() if gpu_bytes is None else room.as_gpu(gpu_bytes):
        found = gradients(*decoder(slots, place, active)[:2])
    for ours_, theirs in zip(found, gradients(*formula()), strict=True):
        torch.testing.assert_close(ours_, theirs, rtol=1e-9, atol=1e-9)
