"""The indicator of valid instances."""

from __future__ import annotations

import torch

from vocl.nn.valid_instances import ValidInstances, closeness


def make(inclusive: bool) -> ValidInstances:
    return ValidInstances(binarise=0.3, min_area=0.5, min_cosine=0.6, inclusive=inclusive)


def cases():
    """Three semantics that cover 3/4, 1/2 and 1/4 of four patches; instances at cosines 1, 0.6, 0."""
    masks = torch.tensor([[0.9, 0.4, 0.31, 0.1], [0.8, 0.31, 0.3, 0.2], [0.4, 0.3, 0.2, 0.1]])[None, None]
    semantics = torch.tensor([2.0, 0.0]).expand(1, 1, 3, 2)
    instances = torch.tensor([[3.0, 0.0], [0.3, 0.4], [0.0, 1.0]]).expand(1, 1, 3, 3, 2)
    return masks, semantics, instances


def test_area_and_closeness():
    masks, semantics, instances = cases()
    assert make(True).area(masks).flatten().tolist() == [0.75, 0.5, 0.25]
    torch.testing.assert_close(closeness(semantics, instances)[0, 0, 0], torch.tensor([1.0, 0.6, 0.0]))


def test_the_limits_themselves():
    masks, semantics, instances = cases()
    strict = make(False)(masks, semantics, instances)[0, 0]
    assert strict[:, [0, 2]].tolist() == [[True, False], [False, False], [False, False]]
    loose = make(True)(masks, semantics, instances)[0, 0]
    assert loose[:, [0, 2]].tolist() == [[True, False], [True, False], [False, False]]
    one = ValidInstances(binarise=0.3, min_area=0.0, min_cosine=1.0, inclusive=True)
    same = one(masks, semantics, semantics.unsqueeze(3))
    assert same.shape == (1, 1, 3, 1) and same.all()


def test_no_gradient():
    masks, semantics, instances = (x.clone().requires_grad_() for x in cases())
    assert not make(True)(masks, semantics, instances).requires_grad
