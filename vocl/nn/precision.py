"""`train.precision`: what it means for the arithmetic of a device."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

LOW = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(precision: str, device: torch.device) -> AbstractContextManager[None]:
    """Within it the model computes at `precision`."""
    return torch.autocast(device.type, dtype=LOW[precision]) if precision in LOW else nullcontext()


def set_tf32(precision: str) -> None:
    """Allow, or forbid, products of float32 with the mantissa of TF32 in this process."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
