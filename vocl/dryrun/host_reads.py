"""What a program that reads fake tensors on the host is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.overrides import TorchFunctionMode

NUMPY = {torch.bfloat16: np.float32}  # numpy has no such numbers


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
        if func in READS and isinstance(args[0], FakeTensor):
            return self.answer(func, args[0])
        return func(*args, **(kwargs or {}))

    def answer(self, func: Any, tensor: Tensor) -> Any:
        """What `func`, one of `READS`, is told of `tensor`."""
        dtype = NUMPY.get(tensor.dtype, str(tensor.dtype).removeprefix("torch."))
        ones = tensor.dtype.is_floating_point or tensor.dtype == torch.bool
        found = (np.ones if ones else np.zeros)(tuple(tensor.shape), dtype)
        return READS[func](found)


READS: dict[Any, Callable[[np.ndarray], Any]] = {
    Tensor.data_ptr: lambda found: 0,
    Tensor.numpy: lambda found: found,
    Tensor.tolist: lambda found: found.tolist(),
    Tensor.item: lambda found: found.item(),
    Tensor.__bool__: lambda found: bool(found.item()),
    Tensor.__int__: lambda found: int(found.item()),
    Tensor.__index__: lambda found: int(found.item()),
    Tensor.__float__: lambda found: float(found.item()),
}
