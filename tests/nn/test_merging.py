"""Merging of similar slots: the rules, and when it happens."""

from __future__ import annotations

import math

import pytest
import torch

from vocl.nn.merging import MergeSimilar, alone, merge


def merging(**changes):
    return MergeSimilar(**({"threshold": 0.12, "min_clusters": 3, "steps": 360, "epochs": 180} | changes))


def test_the_chance_to_keep_all_is_the_papers():
    chance = merging().chance_to_keep
    epochs = {0: 1.0, 1: 0.87, 9: 0.56, 99: 0.11, 179: 0.0}
    for epoch, expected in epochs.items():
        for step in (2 * epoch, 2 * epoch + 1):  # two steps an epoch here
            assert chance(step) == pytest.approx(1 - math.log(epoch + 1) / math.log(180))
            assert chance(step) == pytest.approx(expected, abs=0.005)
    assert merging(steps=3).chance_to_keep(2) == pytest.approx(1 - math.log(121) / math.log(180))
    assert merging(epochs=1).chance_to_keep(5) == 0


def test_identical_slots_become_one_and_too_few_clusters_none():
    a, b, c = torch.eye(4)[:3]
    three = torch.stack([torch.stack([a, b, 2 * a, c]), torch.stack([a, b, 2 * a, b])])
    assert merging().labels(three).tolist() == [[0, 1, 0, 2], [0, 1, 2, 3]]
    assert merging(min_clusters=2).labels(three).tolist() == [[0, 1, 0, 2], [0, 1, 0, 1]]


def test_at_distance_zero_nothing_merges_and_at_two_everything():
    g = torch.Generator().manual_seed(0)
    slots = torch.randn(3, 6, 5, generator=g)
    slots[:, 4] = 3 * slots[:, 1]
    assert torch.equal(merging(threshold=0.0, min_clusters=1).labels(slots), alone(slots))
    two = merging(threshold=1e-6, min_clusters=2).labels(slots)
    assert torch.equal(two[:, 4], two[:, 1]) and (two.amax(1) == 4).all()
    assert (merging(threshold=2.1, min_clusters=1).labels(slots) == 0).all()
    assert torch.equal(merging(threshold=2.1, min_clusters=2).labels(slots), alone(slots))


def test_training_keeps_all_by_the_key_of_the_clip():
    slots = torch.eye(4)[[0, 1, 0, 2]].expand(200, 4, 4)
    key = torch.arange(200)
    labels = merging().labels(slots, key, 0.3)
    kept = (labels == alone(slots)).all(1)
    assert 0.2 < kept.float().mean() < 0.4
    assert torch.equal(merging().labels(slots[50:60], key[50:60], 0.3), labels[50:60])
    assert not (merging().labels(slots, key, 0.0) == alone(slots)).all(1).any()
    assert (merging().labels(slots, key, 1.0) == alone(slots)).all()


def test_a_merged_slot_is_the_mean_and_its_weights_the_normalised_sum():
    g = torch.Generator().manual_seed(0)
    slots = torch.randn(1, 4, 5, generator=g).requires_grad_()
    attn = torch.rand(1, 4, 6, generator=g).softmax(1)
    weights = attn / attn.sum(2, keepdim=True)
    found = merge(slots, weights, attn, torch.tensor([[0, 1, 0, 2]]))
    assert found.active.tolist() == [[True, True, True, False]]
    torch.testing.assert_close(found.slots[0, 0], (slots[0, 0] + slots[0, 2]) / 2)
    torch.testing.assert_close(found.slots[0, 2], slots[0, 3])
    assert (found.slots[0, 3] == 0).all()
    torch.testing.assert_close(found.weights[0, 0], (weights[0, 0] + weights[0, 2]) / 2)
    torch.testing.assert_close(found.weights.sum(2), torch.ones(1, 4))
    torch.testing.assert_close(found.attn.sum(1), torch.ones(1, 6))
    (gradient,) = torch.autograd.grad(found.slots[0, 0].sum(), slots)
    assert gradient[0].tolist() == [[0.5] * 5, [0] * 5, [0.5] * 5, [0] * 5]


def test_without_merging_everything_stays():
    slots, weights = torch.randn(2, 3, 4), torch.rand(2, 3, 5).softmax(2)
    found = merge(slots, weights, weights, alone(slots))
    torch.testing.assert_close(found.slots, slots)
    torch.testing.assert_close(found.weights, weights)
    assert found.active.all()
    assert merge(slots, None, weights, alone(slots)).weights is None
