"""A GPU that is not there: tensors that have its device and no values, and where the host meets it."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from vocl.dryrun.fakes import fake_tensors
from vocl.dryrun.host_reads import AnsweredReads
from vocl.nn.execution import room

ROOT = Path(__file__).resolve().parents[1] / "vocl"
GPU = torch.device("cuda", 0)
aten = torch.ops.aten
MOVES = (aten._to_copy.default, aten.copy_.default)


class Transfers(TorchDispatchMode):
    """Counts copies between the host and the GPU, by the line of vocl that asks for them.

    The fused GRU cell has no rule for fake tensors, so it has one here.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is aten._thnn_fused_gru_cell.default:
            hidden = args[2]
            return torch.empty_like(hidden), hidden.new_empty(len(hidden), 5 * hidden.shape[1])
        out = func(*args, **(kwargs or {}))
        moved = func in (aten._to_copy.default, aten.copy_.default)
        if moved and (devices := {x.device.type for x in (*args[:2], out) if isinstance(x, Tensor)}) > {
            "cpu"
        }:
            assert devices == {"cpu", "cuda"}
            self.found[_caller()] += 1
        return out


class Reads(AnsweredReads):
    """Counts what the host reads of tensors of the GPU, by the line of vocl that asks for it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def answer(self, func, tensor):
        if tensor.device.type == "cuda" and func is not Tensor.data_ptr:
            self.found[_caller()] += 1
        return super().answer(func, tensor)


def _caller() -> str:
    """File and function of vocl that stand nearest."""
    for frame in reversed(traceback.extract_stack()):
        path = Path(frame.filename)
        if ROOT in path.parents and "dryrun" not in path.parts:
            return f"{path.relative_to(ROOT)}:{frame.name}"
    return "?"


@contextmanager
def fake_gpu(*modules: torch.nn.Module) -> Iterator[Counter[str]]:
    """Within it `modules` are on the fake GPU; gives where the host and it meet, and how often."""
    for module in modules:
        module.to("meta")
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())  # without a driver autocast does nothing
        patch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
        patch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
        stack.enter_context(room.as_gpu(2**36))
        stack.enter_context(fake_tensors())
        transfers, reads = stack.enter_context(Transfers()), stack.enter_context(Reads())
        for module in modules:
            module.to(GPU)
        reads.found = transfers.found
        transfers.found.clear()
        yield transfers.found
