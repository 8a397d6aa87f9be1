"""The SlotMixer decoder against its formulas, patch by patch, in float64, with gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vocl.errors import UserError
from vocl.interface import Grid
from vocl.nn.decoders.slot_mixer import SlotMixerDecoder

GRID, HEADS = Grid(2, 3), 2


def _decoder(
    logit_scale: str = "multiplied", num_layers: int = 2, num_heads: int = HEADS
) -> SlotMixerDecoder:
    torch.manual_seed(0)
    attention = {"num_blocks": 2, "num_heads": num_heads, "ffn_dim": 6, "logit_scale": logit_scale}
    return SlotMixerDecoder(4, 5, GRID, **attention, hidden_dim=7, num_layers=num_layers)


def _norm(part: torch.nn.LayerNorm, x: Tensor) -> Tensor:
    x = (x - x.mean()) / (x.var(correction=0) + 1e-5).sqrt()
    return x * part.weight + part.bias


def _attend(block, x: Tensor, memory: list[Tensor], multiplied: bool) -> Tensor:
    """What patch `x` (d) gets from the slots in `memory`, head by head."""
    weight, bias = block.self_attn.qkv.weight, block.self_attn.qkv.bias
    d, head = len(x), len(x) // HEADS
    query = weight[:d] @ _norm(block.norm1, x) + bias[:d]
    keys = [weight[d : 2 * d] @ m + bias[d : 2 * d] for m in memory]
    values = [weight[2 * d :] @ m + bias[2 * d :] for m in memory]
    heads = []
    for i in range(0, d, head):
        at = slice(i, i + head)
        logits = torch.stack([query[at] @ k[at] for k in keys]) * head ** (0.5 if multiplied else -0.5)
        heads.append(sum(p * v[at] for p, v in zip(logits.softmax(0), values, strict=True)))
    return block.self_attn.out_proj(torch.cat(heads))


def _patch(
    part: SlotMixerDecoder, slots: Tensor, position: Tensor, multiplied: bool
) -> tuple[Tensor, Tensor]:
    """Reconstruction (e) and shares (k) of one patch from slots (k d)."""
    memory, x = [_norm(part.norm_memory, s) for s in slots], position
    for block in part.allocator:
        x = x + _attend(block, x, memory, multiplied)
        x = x + block.linear2(F.relu(block.linear1(_norm(block.norm2, x))))
    query = part.to_q(_norm(part.norm_q, x))
    logits = torch.stack([query @ part.to_k(_norm(part.norm_k, s)) for s in slots]) / len(x) ** 0.5
    hidden = logits.softmax(0) @ slots + position
    for layer in part.renderer[::2]:
        hidden = F.relu(layer(hidden))
    return part.output(hidden), logits.softmax(0)


@pytest.mark.parametrize("logit_scale", ["multiplied", "divided"])
@pytest.mark.parametrize("num_layers", [1, 3])
def test_formulas(logit_scale: str, num_layers: int, monkeypatch) -> None:
    monkeypatch.setattr(torch.Tensor, "float", lambda self: self)  # it pins float32 under autocast
    part = _decoder(logit_scale, num_layers).double()
    generator = torch.Generator().manual_seed(1)
    for p in part.parameters():
        p.data += 0.1 * torch.randn(p.shape, generator=generator, dtype=torch.float64)
    slots = torch.randn(2, 2, 3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    patches = [
        [[_patch(part, s, e, logit_scale == "multiplied") for e in part.pos_emb] for s in clip]
        for clip in slots
    ]
    recon = torch.stack([torch.stack([torch.stack([p[0] for p in f]) for f in c]) for c in patches])
    masks = torch.stack([torch.stack([torch.stack([p[1] for p in f], dim=1) for f in c]) for c in patches])
    ours = part(slots)
    torch.testing.assert_close(ours.recon, recon)
    torch.testing.assert_close(ours.masks, masks)
    names, leaves = zip(*part.named_parameters(), strict=True)
    grads = [
        torch.autograd.grad(r.square().sum() + m.square().sum(), [slots, *leaves], allow_unused=True)
        for r, m in ((ours.recon, ours.masks), (recon, masks))
    ]
    for name, a, b in zip(("slots", *names), *grads, strict=True):
        torch.testing.assert_close(a, b, msg=name)


def test_without_reconstruction_the_masks_are_the_same() -> None:
    part, slots = _decoder(), torch.randn(2, 3, 4, 4)
    with torch.no_grad():
        full, short = part(slots), part(slots, reconstruct=False)
    assert short.recon is None and torch.equal(full.masks, short.masks)
    assert full.recon.shape == (2, 3, 6, 5) and full.masks.shape == (2, 3, 4, 6) and full.grid == GRID
    torch.testing.assert_close(full.masks.sum(2), torch.ones(2, 3, 6))


def test_the_shares_stay_in_float32_under_autocast() -> None:
    part, slots = _decoder(), torch.randn(2, 3, 4, 4)
    exact = part(slots)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = part(slots)
    assert torch.equal(low.masks, exact.masks)
    torch.testing.assert_close(low.recon.float(), exact.recon, atol=0.05, rtol=0.05)
    low.recon.float().square().mean().backward()
    assert all(p.grad.dtype == torch.float32 for p in part.parameters())


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(UserError, match="num_heads=3: does not divide"):
        _decoder(num_heads=3)
