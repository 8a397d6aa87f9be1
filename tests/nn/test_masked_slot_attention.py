"""Two stages of slot attention from learned Gaussians."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vocl.nn.masked_slot_attention import MaskedSlotAttention

B, T, N, P, PATCHES, D = 2, 3, 4, 3, 10, 8
RELEASE = {
    "iterations": 3, "mlp_ratio": 1.0, "update": "sum", "mask": "logit", "threshold": 0.3,
    "straight_through": True, "reparameterised": False,
}  # fmt: skip
PAPER = RELEASE | {
    "update": "gru", "mask": "probability", "threshold": 0.5,
    "straight_through": False, "reparameterised": True,
}  # fmt: skip


def make(**changes) -> MaskedSlotAttention:
    torch.manual_seed(0)
    return MaskedSlotAttention(D, N, **RELEASE | changes)


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def run(attention: MaskedSlotAttention, mask: Tensor | None = None, features: Tensor | None = None):
    """Slots of both stages."""
    prepared = attention.prepare(draw(B, T, PATCHES, D) if features is None else features)
    semantics, logits = attention.semantics(prepared)
    samples = attention.sample(draw(B, T, N, P, D, seed=2))
    mask = attention.mask(logits) if mask is None else mask
    instances, within = attention.instances(prepared, samples, mask)
    return semantics, logits, instances, within


def test_a_round_by_hand():
    attention, features = make(iterations=1), draw(B, T, PATCHES, D)
    mask = (draw(B, T, N, PATCHES, seed=3) > 0).float()
    semantics, logits, instances, within = run(attention, mask, features)
    a, x = attention, attention.norm_features(features)
    for b, t in ((0, 0), (1, 2)):
        keys, values = a.to_k(x[b, t]), a.to_v(x[b, t])
        s = a.mean[:, 0]
        expected = a.to_q(a.norm_slots(s)) @ keys.t() / math.sqrt(D)
        torch.testing.assert_close(logits[b, t], expected)
        weights = expected.softmax(0) + 1e-8
        s = s + weights / weights.sum(1, keepdim=True) @ values
        torch.testing.assert_close(semantics[b, t], s + a.mlp(a.norm_mlp(s)))
        for n in range(N):
            s = (a.mean + a.log_std.exp() * draw(B, T, N, P, D, seed=2))[b, t, n]
            expected = a.to_q(a.norm_slots(s)) @ keys.t() / math.sqrt(D)
            torch.testing.assert_close(within[b, t, n], expected)
            weights = (expected.softmax(0) + 1e-8) * mask[b, t, n]
            s = s + weights / (weights.sum(1, keepdim=True) + 1e-8) @ values
            torch.testing.assert_close(instances[b, t, n], s + a.mlp(a.norm_mlp(s)))


@pytest.mark.parametrize("update", ["sum", "gru"])
def test_stage_2_reads_no_patch_outside_of_the_mask(update):
    attention, features = make(update=update), draw(B, T, PATCHES, D)
    mask = torch.zeros(B, T, N, PATCHES)
    mask[:, :, :, :4] = 1
    _, _, before, _ = run(attention, mask, features)
    changed = features.clone()
    changed[:, :, 4:] = draw(B, T, PATCHES - 4, D, seed=9)
    _, _, after, _ = run(attention, mask, changed)
    torch.testing.assert_close(after, before)
    changed[:, :, 3] = 5 * draw(B, T, D, seed=10)
    assert not torch.allclose(run(attention, mask, changed)[2], before)


def test_instances_of_an_empty_mask_move_by_their_mlp_alone():
    attention = make(iterations=1)
    _, _, instances, _ = run(attention, torch.zeros(B, T, N, PATCHES))
    samples = attention.sample(draw(B, T, N, P, D, seed=2))
    torch.testing.assert_close(instances, samples + attention.mlp(attention.norm_mlp(samples)))


def test_semantics_do_not_see_each_other_in_stage_2():
    attention, mask = make(), torch.ones(B, T, N, PATCHES)
    _, _, together, _ = run(attention, mask)
    with torch.no_grad():
        attention.mean[1:] += 1
    torch.testing.assert_close(run(attention, mask)[2][:, :, 0], together[:, :, 0])


@pytest.mark.parametrize(
    ("rule", "threshold", "expected"),
    [("logit", 0.3, lambda x: x > 0.3), ("probability", 0.5, lambda x: x.softmax(2) > 0.5)],
)
def test_the_mask(rule, threshold, expected):
    logits = (3 * draw(B, T, N, PATCHES)).requires_grad_()
    found = make(mask=rule, threshold=threshold).mask(logits)
    assert torch.equal(found, expected(logits).float()) and 0 < found.mean() < 1
    assert not found.requires_grad
    soft = make(mask="soft").mask(logits)
    torch.testing.assert_close(soft, logits.softmax(2).detach())


def gradients(attention: MaskedSlotAttention, rounds: int | None = None) -> dict[str, Tensor | None]:
    """Of a sum over stage 1 with weights; `rounds`: those before the last without gradient, by hand."""
    prepared, cotangent = attention.prepare(draw(B, T, PATCHES, D)), draw(B, T, N, D, seed=4)
    if rounds is None:
        slots, _ = attention.semantics(prepared)
    else:
        first = attention.mean[:, 0].expand(B, T, 1, N, D)
        with torch.no_grad():
            before, _ = attention._rounds(first, prepared, None, rounds)
        slots, _ = attention._rounds(before + first - first.detach(), prepared, None, 1)
        slots = slots.squeeze(2)
    attention.zero_grad()
    (slots * cotangent).sum().backward()
    return {name: p.grad for name, p in attention.named_parameters()}


def test_only_the_last_round_is_differentiated():
    found, by_hand = gradients(make()), gradients(make(), 2)
    full = gradients(make(straight_through=False))
    for name, gradient in by_hand.items():
        if gradient is None:
            assert found[name] is None
        else:
            torch.testing.assert_close(found[name], gradient, msg=name)
    assert not torch.allclose(full["to_v.weight"], found["to_v.weight"])
    once = gradients(make(iterations=1))
    for name, gradient in gradients(make(iterations=1, straight_through=False)).items():
        assert gradient is None or torch.equal(once[name], gradient)  # nothing to cut


@pytest.mark.parametrize(("settings", "learns"), [(RELEASE, False), (PAPER, True)])
def test_what_the_samples_teach(settings, learns):
    """The release: the mean learns from stage 1 alone, the deviation gets zeros and not None."""
    attention = make(**settings)
    semantics, _, instances, _ = run(attention)
    (instances * draw(B, T, N, P, D, seed=5)).sum().backward(retain_graph=True)
    assert attention.mean.grad.any() == learns and attention.log_std.grad.any() == learns
    semantics.sum().backward()
    assert attention.mean.grad.any() and attention.log_std.grad.any() == learns


def test_where_training_begins():
    torch.manual_seed(0)
    attention = MaskedSlotAttention(384, 16, **RELEASE)
    assert float(attention.mean.detach().norm(dim=-1).mean()) == pytest.approx(19.6, abs=0.5)
    assert float(attention.mean.detach().std()) == pytest.approx(1, abs=0.05)
    largest = attention.log_std.abs().max()
    assert 0.029 < largest < 0.0304
    assert not any("gru" in name for name, _ in attention.named_parameters())
    assert {attention.to_q.bias.shape, attention.to_k.bias.shape, attention.to_v.bias.shape} == {(384,)}


def test_float32_under_autocast():
    attention = make()
    plain = run(attention)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = run(attention)
    assert all(torch.equal(a, b) for a, b in zip(plain, low, strict=True))
