"""A GPU that is pretended: its tensors lie on the host, have values, and are kept apart from the host's.

`tests/fake_gpu.py` has one without values, on which whatever looks at values (evaluations) cannot run.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode

from vocl import loading

GPU, HOST = torch.device("cuda", 0), torch.device("cpu")
READS = {Tensor.numpy, Tensor.__array__}
INDEXED = {Tensor.__getitem__, Tensor.__setitem__}
ALIKE = {torch.cat, torch.stack}
UNCHECKED = [torch._has_compatible_shallow_copy_type, Tensor.data.__set__, Tensor.grad.__set__]


class Pretended(TorchFunctionMode):
    """Knows of each storage where it pretends to be; refuses what a GPU would refuse.

    A tensor that it has never met, as one that the backward pass made, or that is empty, may be anywhere.
    """

    def __init__(self) -> None:
        super().__init__()
        self.places: dict[int, tuple[StorageWeakRef, torch.device]] = {}

    def place(self, tensor: Tensor) -> torch.device | None:
        kept = self.places.get(tensor.untyped_storage()._cdata)
        return None if kept is None else kept[1]

    def put(self, value: Any, device: torch.device | None) -> Any:
        if device is None:
            return value
        for tensor in _tensors(value):
            storage = tensor.untyped_storage()
            if storage.nbytes():
                self.places[storage._cdata] = StorageWeakRef(storage), device
        return value

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, first = dict(kwargs or {}), args[0] if args else None
        if func == Tensor.device.__get__:
            return GPU if self.place(first) == GPU else func(first)
        if func == Tensor.is_cuda.__get__:
            return self.place(first) == GPU
        if func == Tensor.grad.__get__:
            found = func(first)
            return found if found is None else self.put(found, self.place(first))
        if func is Tensor.backward:
            with self:
                return torch.autograd.backward(first)
        if func is Tensor.pin_memory:
            return first
        if func in UNCHECKED:
            return func(*args)
        if func in READS and self.place(first) == GPU:
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        if func in (Tensor.to, Tensor.cpu, Tensor.cuda):
            return self._moved(func, first, args[1:], kwargs)
        if func is Tensor.type_as:
            return self._moved(Tensor.to, first, args[1:], kwargs)
        wanted = kwargs.pop("device", None)
        own = self._agreed(func, args, kwargs)
        if wanted is not None:
            own = GPU if torch.device(wanted).type == "cuda" else HOST
        return self.put(func(*args, **kwargs), own)

    def _moved(self, func: Any, tensor: Tensor, args: Any, kwargs: Any) -> Tensor:
        asked = [HOST] if func is Tensor.cpu else [GPU] if func is Tensor.cuda else []
        rest = []
        for arg in (*args, *([kwargs.pop("device")] if kwargs.get("device") is not None else [])):
            if isinstance(arg, str | torch.device):
                asked.append(torch.device(arg))
            elif isinstance(arg, Tensor):
                asked.append(self.place(arg) or arg.device)
                rest.append(arg.dtype)
            elif isinstance(arg, torch.dtype):
                rest.append(arg)
        before = self.place(tensor)
        found = tensor.to(*rest, **kwargs) if rest or kwargs.keys() - {"non_blocking"} else tensor
        place = (GPU if asked[0].type == "cuda" else HOST) if asked else before
        if (
            place is not None
            and before != place
            and found.untyped_storage()._cdata == (tensor.untyped_storage()._cdata)
        ):
            found = found.clone()
        return self.put(found, place)

    def _agreed(self, func: Any, args: Any, kwargs: Any) -> torch.device | None:
        """Where the result of `func` is; raises where its arguments lie apart."""
        if func is Tensor.copy_:
            return self.place(args[0])
        if func in INDEXED:
            own = self.place(args[0])
            indices = [i for i in _tensors(args[1]) if self.place(i) is not None]
            if own == HOST and any(self.place(i) == GPU for i in indices):
                raise RuntimeError("indices should be either on cpu or on the same device as the tensor")
            for value in args[2:]:
                if indices and isinstance(value, Tensor) and value.ndim and own is not None:
                    assert self.place(value) in (None, own), "values of index_put_ on another device"
            return own
        tensors = [*_tensors(args), *_tensors(kwargs)]
        if func.__name__.startswith("_foreach") or "fused" in func.__name__:
            tensors = tensors[:1]
        places = {self.place(t) for t in tensors}
        host = any(self.place(t) == HOST and (t.ndim or func in ALIKE) for t in tensors)
        if GPU in places and host:
            said = [(tuple(t.shape), str(self.place(t))) for t in tensors]
            raise RuntimeError(f"{func}: expected all tensors to be on the same device: {said}")
        return GPU if GPU in places else None if None in places else HOST


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        yield from itertools.chain.from_iterable(map(_tensors, value))
    elif isinstance(value, dict):
        yield from _tensors(tuple(value.values()))


class _Stream:
    """Of the GPU: what it is given is done at once."""

    def __init__(self, *_: Any) -> None: ...
    def record(self, *_: Any) -> None: ...
    def synchronize(self) -> None: ...
    def wait_stream(self, other: Any) -> None: ...


class _Autocast(torch.autocast):
    """Of the GPU, as of the host."""

    def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
        super().__init__("cpu", *args, **kwargs)


@contextmanager
def pretended_gpu() -> Iterator[Pretended]:
    """Within it there is a GPU, as far as vocl can tell."""
    mode = Pretended()
    from_numpy, empty, fork = torch.from_numpy, torch.empty, torch.random.fork_rng
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "from_numpy", lambda array: mode.put(from_numpy(array), HOST))
        patch.setattr(torch, "empty", lambda *size, pin_memory=False, **kind: empty(*size, **kind))
        patch.setattr(Tensor, "record_stream", lambda tensor, stream: None)
        patch.setattr(torch, "autocast", _Autocast)
        for name in ("is_autocast_enabled", "get_autocast_dtype"):
            of = getattr(torch, name)
            patch.setattr(torch, name, lambda device, of=of: of("cpu"))
        patch.setattr(torch.random, "fork_rng", lambda devices: fork(devices=[]))
        for name in ("Event", "Stream"):
            patch.setattr(torch.cuda, name, _Stream)
        patch.setattr(torch.cuda, "current_stream", _Stream)
        patch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
        patch.setattr(loading, "pick_device", lambda name: GPU)
        patch.setattr(torch.cuda, "get_device_name", lambda device=None: "pretended")
        patch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
        properties = type("Properties", (), {"total_memory": 2**36})
        patch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
        with mode:
            yield mode
