"""Products in FP8: those of PyTorch's own kernel, and small steps that stay close to those in fp32."""

from __future__ import annotations

import pytest
import torch

from vocl.errors import UserError
from vocl.nn.execution import fp8

E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2


def drawn(*shape, scale=1.0):
    generator = torch.Generator().manual_seed(len(shape))
    return (torch.randn(*shape, generator=generator) * scale).bfloat16()


def kernel(left, kind, right):
    """The product of `left` and the transpose of `right` by PyTorch, scaled by powers of two."""
    scaled = []
    for x, form in ((left, kind), (right, E4M3)):
        scale = 2.0 ** torch.ceil(torch.log2(x.abs().max().float() / torch.finfo(form).max))
        scaled.append(((x.float() / scale).to(form), scale))
    (a, scale_a), (b, scale_b) = scaled
    return torch._scaled_mm(a, b.t(), scale_a=scale_a, scale_b=scale_b, out_dtype=torch.bfloat16)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 3e4])
def test_products_are_those_of_the_kernel(scale):
    x, weight, bias = drawn(2, 3, 5, 32, scale=scale), drawn(48, 32), torch.zeros(48).bfloat16()
    found = fp8.linear(x, weight, bias)
    assert found.shape == (2, 3, 5, 48)
    torch.testing.assert_close(found.view(-1, 48), kernel(x.view(-1, 32), E4M3, weight), rtol=1e-2, atol=0)
    grad = drawn(2, 3, 5, 48, scale=scale)
    back = fp8.linear_grad(grad, weight)
    wanted = kernel(grad.view(-1, 48), E5M2, weight.t().contiguous())
    torch.testing.assert_close(back.view(-1, 32), wanted, rtol=1e-2, atol=0)


def test_products_are_near_the_exact_ones():
    x, weight, bias = drawn(64, 128), drawn(128, 128), drawn(128)
    exact = torch.nn.functional.linear(x.double(), weight.double(), bias.double())
    gap = (fp8.linear(x, weight, bias).double() - exact).norm() / exact.norm()
    assert 0.005 < gap < 0.06  # three bits of mantissa


@pytest.mark.parametrize("worst", [float("inf"), float("nan")])
def test_what_is_not_finite_stays_so(worst):
    x = drawn(4, 16)
    x[2, 3] = worst
    assert not fp8.linear(x, drawn(16, 16), drawn(16)).isfinite().all()
    assert not fp8.linear_grad(x, drawn(16, 16)).isfinite().all()


def test_zeros_stay_zeros():
    assert not fp8.linear_grad(torch.zeros(4, 16).bfloat16(), drawn(16, 16)).any()


def test_narrow_layers_are_left_as_they_are():
    x, weight, bias = drawn(4, 12), drawn(8, 12), drawn(8)
    assert torch.equal(fp8.linear(x, weight, bias), torch.nn.functional.linear(x, weight, bias))
    assert torch.equal(fp8.linear_grad(drawn(4, 8), weight), drawn(4, 8) @ weight)


def test_a_gpu_without_fp8_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA A100")
    for capability in ((8, 9), (9, 0)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, found=capability: found)
        fp8.refuse_without_fp8(torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    with pytest.raises(UserError, match=r"train.precision=fp8: NVIDIA A100 .* choose from fp32"):
        fp8.refuse_without_fp8(torch.device("cuda"))
