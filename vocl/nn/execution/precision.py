"""`train.precision`: what it means for the arithmetic of a device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

LOW = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp8": torch.bfloat16}

_WIDE_IN_FP8 = [False]


@contextmanager
def autocast(precision: str, device: torch.device) -> Iterator[None]:
    """Within it the model computes at `precision`; fp8: in bf16, but wide layers in FP8."""
    _WIDE_IN_FP8.append(precision == "fp8")
    try:
        with torch.autocast(device.type, dtype=LOW.get(precision), enabled=precision in LOW):
            yield
    finally:
        _WIDE_IN_FP8.pop()


def of_autocast(precision: str) -> str:
    """The precision of all that is no wide layer at `precision`: bf16, fp16 or full."""
    return next((name for name, kind in LOW.items() if kind is LOW.get(precision)), "full")


def wide_in_fp8() -> bool:
    """Whether wide layers are to multiply in FP8 now."""
    return _WIDE_IN_FP8[-1]


def set_tf32(precision: str) -> None:
    """Allow, or forbid, products of float32 with the mantissa of TF32 in this process."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
