"""What a program that reads fake tensors on the host is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.overrides import TorchFunctionMode

NUMPY = {torch.bfloat16: np.float32}  # numpy has no such numbers
SCALARS = (Tensor.item, Tensor.__bool__, Tensor.__int__, Tensor.__float__, Tensor.__index__)


class AnsweredReads(TorchFunctionMode):
    """Within it `item`, `tolist` and `numpy` of a fake tensor, and numbers made of it, have an answer: 1 for
    floats, which may be divided by, and 0 for integers, which may be indices.

    A model that looks at values (to match, to cluster) then goes on; how large its tensors are
    must not hang on them.
    """

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if args and isinstance(args[0], FakeTensor):
            if func in (Tensor.numpy, Tensor.tolist):
                found = _answer(args[0])
                return found if func is Tensor.numpy else found.tolist()
            if func is Tensor.data_ptr:
                return 0
            if func in SCALARS:
                value = _answer(args[0]).item()
                return value if func is Tensor.item else CASTS[func](value)
        return func(*args, **(kwargs or {}))


CASTS = {Tensor.__bool__: bool, Tensor.__int__: int, Tensor.__float__: float, Tensor.__index__: int}


def _answer(tensor: Tensor) -> np.ndarray:
    name = str(tensor.dtype).removeprefix("torch.")
    make = np.ones if tensor.dtype.is_floating_point else np.zeros
    return make(tuple(tensor.shape), NUMPY.get(tensor.dtype, name))
