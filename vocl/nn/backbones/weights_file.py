"""Tensors of a checkpoint file that somebody else made, read without executing anything in it.

A `.ckpt` is a zip archive with a pickle in it, and a pickle is a program. PyTorch's own safe reader
is asked first. It refuses files whose callbacks or loops left objects of other classes in them, as
Lightning's do; those are read again by `_Inert`, for which every name that is not needed to rebuild
a tensor stands for a thing that does nothing. No name from the file is ever imported.
"""

from __future__ import annotations

import io
import pickle
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vocl.errors import UserError

PREFIX = "state_dict."
WRAPPERS = ("state_dict", "model_state_dict", "model", "module")  # where weights stand, if not at the top
PARALLEL = "module."  # what every name begins with that PyTorch's data parallelism has saved
COMPILED = "_orig_mod."  # what names have where a part of the model was compiled
_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The state dict in `path`: a checkpoint of Lightning or of plain PyTorch, or safetensors, of all its
    keys or those that begin with `state_dict.`; without what compiling and data parallelism put into names.

    Raises `UserError` naming the file when it is missing, damaged, or holds no state dict, and naming
    the tensor for one that has no plain values.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint file")
    state = _read_safetensors(path) if path.suffix == ".safetensors" else _read_checkpoint(path)
    tensors = {str(k).replace(COMPILED, ""): v for k, v in state.items() if isinstance(v, Tensor)}
    if not tensors:
        raise UserError(f"{path}: its state dict holds no tensors")
    for name, tensor in tensors.items():
        if kind := _odd_kind(tensor):
            raise UserError(f"{path}: {name} is a {kind} tensor, which cannot be taken over")
    while all(name.startswith(PARALLEL) for name in tensors):
        tensors = {name.removeprefix(PARALLEL): tensor for name, tensor in tensors.items()}
    return tensors


def _odd_kind(tensor: Tensor) -> str:
    """What keeps a tensor from being a block of numbers on this machine; "" for one that is."""
    if tensor.is_meta:
        return "meta (without values)"
    if tensor.layout != torch.strided or tensor.is_nested:
        return "sparse or nested"
    if tensor.is_quantized or tensor.is_complex():
        return str(tensor.dtype).removeprefix("torch.")
    return ""


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            names = list(file.keys())
            names = [name for name in names if name.startswith(PREFIX)] or names
            return {name.removeprefix(PREFIX): file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a whole safetensors file ({error})") from None


def _read_checkpoint(path: Path) -> Mapping[Any, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # whatever it dislikes: the second reader gives the reason
        content = _read_inert(path)
    content = content if isinstance(content, Mapping) else {}
    found = (content.get(name) for name in WRAPPERS)
    state = next((state for state in found if isinstance(state, Mapping)), None)
    if state is None and any(isinstance(value, Tensor) for value in content.values()):
        return content
    if state is None:
        raise UserError(
            f"{path}: not a checkpoint of weights, it holds no {' or '.join(map(repr, WRAPPERS))}"
        )
    return state


def _read_inert(path: Path) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            return _load_inert(archive)
    except zipfile.BadZipFile:
        raise UserError(f"{path}: not a whole PyTorch checkpoint (no zip archive)") from None
    except Exception as error:  # a hostile pickle can provoke any
        raise UserError(f"{path}: not a readable PyTorch checkpoint ({error})") from None


def _load_inert(archive: zipfile.ZipFile) -> Any:
    pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ValueError("no data.pkl in it")
    root = pickles[0].removesuffix("data.pkl")
    if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
        raise ValueError("its numbers are big-endian")
    return _Inert(archive, root).load()


class _Nothing:
    """Stands for every class, function and object that a file names: takes anything, does nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass

    def __setitem__(self, _: Any, __: Any) -> None:
        pass

    def append(self, _: Any) -> None:
        pass

    extend = add = append


class _Inert(pickle.Unpickler):
    """Unpickles with a closed vocabulary: containers, tensors, and `_Nothing` for the rest.

    Safe because a pickle acts only through what `find_class` hands it: an immutable type, a dtype,
    and functions and a class made for this reading alone.
    """

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{root}data.pkl")), encoding="utf-8")
        self._archive, self._root = archive, root
        self._storages: dict[str, Tensor] = {}
        self._nothing = type("Nothing", (_Nothing,), {})
        self._known: dict[tuple[str, str], Any] = {
            ("torch", name): dtype for name, dtype in _DTYPES.items()
        } | {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): lambda storage, offset, size, stride, *_: (
                torch.as_strided(
                    storage,
                    tuple(size),
                    tuple(stride),
                    offset,  # it checks its bounds
                )
            ),
            ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
        }

    def find_class(self, module: str, name: str) -> Any:
        return self._known.get((module, name), self._nothing)

    def persistent_load(self, pid: Any) -> Tensor:
        kind, dtype, key, _, numel = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise ValueError(f"unknown kind of storage {kind!r}")
        if key not in self._storages:
            content = bytearray(self._archive.read(f"{self._root}data/{key}"))
            if len(content) != numel * dtype.itemsize:
                raise ValueError(f"storage {key} is cut short")
            self._storages[key] = (
                torch.frombuffer(content, dtype=dtype) if numel else torch.empty(0, dtype=dtype)
            )
        return self._storages[key]
