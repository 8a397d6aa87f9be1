"""Implicit slot attention: what is differentiated, and what it costs. Values: tests/reference."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vocl.nn.implicit_slot_attention import ImplicitSlotAttention
from vocl.nn.slot_attention import SlotAttention
from vocl.nn.slot_init import XavierGaussian


def attention(iterations: int = 3, prior_grad: str = "none") -> ImplicitSlotAttention:
    torch.manual_seed(0)
    return ImplicitSlotAttention(6, 5, iterations=iterations, mlp_dim=7, prior_grad=prior_grad)


def inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 4, 6, generator=generator), torch.randn(2, 9, 5, generator=generator)


def nodes(tensor: Tensor) -> int:
    """Size of the graph behind `tensor`."""
    seen, rest = set(), [tensor.grad_fn]
    while rest:
        node = rest.pop()
        if node is not None and node not in seen:
            seen.add(node)
            rest += [child for child, _ in node.next_functions]
    return len(seen)


def test_the_gradient_is_that_of_one_round_from_slots_without_gradient():
    part, (first, features) = attention(), inputs()
    single = SlotAttention(6, 5, first_iterations=1, iterations=1, mlp_dim=7, hidden="raw")
    single.load_state_dict(part.state_dict())
    with torch.no_grad():
        before, _ = single(first, single.prepare(features), 3)
    found = []
    for cell, slots, rounds in ((part, first, 3), (single, before, 1)):
        slots, attn = cell(slots, cell.prepare(features), rounds)
        (slots.square().sum() + attn.square().sum()).backward()
        found.append([slots, attn, *(p.grad for p in cell.parameters())])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_the_graph_does_not_grow_with_the_rounds():
    first, features = inputs()
    sizes = {nodes(attention(n)(first, attention(n).prepare(features))[0]) for n in (0, 1, 3, 30)}
    assert len(sizes) == 1


@pytest.mark.parametrize("prior_grad", ["none", "ste"])
def test_the_prior_learns_only_where_it_is_told_to(prior_grad):
    part, prior = attention(prior_grad=prior_grad), XavierGaussian(4, 6)
    first, features = prior(torch.tensor([3, 4])), inputs()[1]
    slots, attn = part(first, part.prepare(features))
    (slots.square().sum() + attn.square().sum()).backward()
    assert [p.grad is not None for p in (prior.mean, prior.log_std)] == [prior_grad == "ste"] * 2


def test_straight_through_changes_no_value_and_gives_the_last_rounds_gradient():
    first, features = inputs()
    first.requires_grad_()
    part = attention(prior_grad="ste")
    slots, _ = part(first, part.prepare(features))
    assert torch.equal(slots, attention()(first, part.prepare(features))[0])
    slots.square().sum().backward()
    with torch.no_grad():
        before, _ = SlotAttention.forward(part, first, part.prepare(features), 3)
    before.requires_grad_()
    SlotAttention.forward(part, before, part.prepare(features), 1)[0].square().sum().backward()
    torch.testing.assert_close(first.grad, before.grad)


def test_slots_share_a_patch_and_the_first_ones_are_drawn_with_deviations_near_one():
    part = attention()
    _, attn = part(inputs()[0], part.prepare(inputs()[1]))
    torch.testing.assert_close(attn.sum(1), torch.ones(2, 9))
    torch.manual_seed(0)
    drawn = XavierGaussian(500, 64)(torch.tensor([1]))
    assert 0.9 < drawn.std() < 1.1 and drawn.mean().abs() < 0.1
