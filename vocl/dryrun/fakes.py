"""Tensors that have a shape, a type and a device, and no values."""

from __future__ import annotations

import torch
from torch._subclasses.fake_tensor import FakeTensorMode


def fake_tensors() -> FakeTensorMode:
    """The mode within which all tensors are fake, and true ones become so where they are used.

    It lets PyTorch believe in a GPU. A first backward pass after that starts threads for it, and forks of
    the process could compute no gradient any more; so there is one before.
    """
    torch.zeros(1, requires_grad=True).sum().backward()
    return FakeTensorMode(allow_non_fake_inputs=True)
