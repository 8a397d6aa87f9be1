"""Products of wide layers in FP8, each tensor scaled by a power of two that its largest value asks for.

Micikevicius et al., "FP8 Formats for Deep Learning" (2022): states and weights as E4M3, gradients, which
spread wider, as E5M2; sums in float32. The product that gives the gradient of a weight stays as it is:
it sums over all rows, and its result is applied.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vocl.errors import UserError

SINCE = (8, 9)  # compute capability of the first GPUs that multiply in FP8
MULTIPLE = 16  # of widths, for their kernels


def refuse_without_fp8(device: torch.device) -> None:
    """Raise `UserError` on a GPU that knows no FP8; a CPU rounds as one that does, and takes longer."""
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < SINCE:
        name = torch.cuda.get_device_name(device)
        raise UserError(
            f"train.precision=fp8: {name} has no FP8 (compute capability {SINCE[0]}.{SINCE[1]} has), "
            "choose from fp32, tf32, bf16, fp16"
        )


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`x` ... i through `weight` o i, plus `bias` o; in the type of `x`, which is of low precision."""
    if any(side % MULTIPLE for side in weight.shape):
        return torch.nn.functional.linear(x, weight, bias)
    rows = x.reshape(-1, x.shape[-1])
    found = _product(rows, torch.float8_e4m3fn, weight)
    return found.add_(bias).view(*x.shape[:-1], len(weight))


def linear_grad(grad: Tensor, weight: Tensor) -> Tensor:
    """Gradient of the input of `linear`, ... i, from that of its output, ... o."""
    if any(side % MULTIPLE for side in weight.shape):
        return grad @ weight
    rows = grad.reshape(-1, grad.shape[-1])
    found = _product(rows, torch.float8_e5m2, weight.t().contiguous())
    return found.view(*grad.shape[:-1], weight.shape[1])


def _product(rows: Tensor, kind: torch.dtype, columns: Tensor) -> Tensor:
    """`rows` m i as `kind`, times the transpose of `columns` o i as E4M3."""
    left, left_scale = _scaled(rows, kind)
    right, right_scale = _scaled(columns, torch.float8_e4m3fn)
    if rows.device.type == "cuda":
        scales = {"scale_a": left_scale, "scale_b": right_scale}
        return torch._scaled_mm(left, right.t(), **scales, out_dtype=rows.dtype, use_fast_accum=True)
    product = left.to(rows.dtype) @ right.to(rows.dtype).t()  # exact factors: FP8 is within bfloat16
    return product.mul_((left_scale * right_scale).to(rows.dtype))


def _scaled(x: Tensor, kind: torch.dtype) -> tuple[Tensor, Tensor]:
    """`x` as `kind`, and the power of two (float32) by which that is to be multiplied.

    What is not finite stays so.
    """
    most = torch.finfo(kind).max
    ratio = (x.abs().amax().float() / most).clamp(min=2.0**-100)
    scale = torch.exp2(torch.ceil(torch.log2(ratio)))
    return (x / scale.to(x.dtype)).to(kind), scale
