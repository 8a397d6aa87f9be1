"""One training step of SlotContrast's MOVi-C model in bf16 against the plain formulation in fp32.

Run from the repository root: `python benchmarks/step_bf16.py`. The steps of `benchmarks/step.py`, ours
under autocast as `train.precision=bf16` has it. On a CPU a claim only where it has instructions for
bf16 (`avx512_bf16` or `amx_bf16` in /proc/cpuinfo); `matmul_ratio`: how much of the time of a large
fp32 matrix product the same takes in bf16, the floor of the step's ratio but for its savings.
"""

from __future__ import annotations

import time

import torch
from step import CONTRAST, make_clip, make_model, make_steps, matmul_rate, measure

LOSS_GAP = 1e-2


def main() -> None:
    began = time.perf_counter()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(2)
    steps = make_steps(make_model(device), make_clip(device), "bf16")
    losses = {name: step() for name, step in steps.items()}
    loss = {name: float(first + CONTRAST * second) for name, (first, second) in losses.items()}
    assert abs(loss["ours"] - loss["plain"]) <= LOSS_GAP * loss["plain"], loss
    found = measure(steps, device, began)
    print(f"device {device.type} rounds {len(found['rate'])}")
    print(f"loss bf16 {loss['ours']:.4f} plain {loss['plain']:.4f}")
    print(f"bf16_s={min(found['ours']):.3f} plain_s={min(found['plain']):.3f}")
    print(f"matmul_ratio={max(found['rate']) / matmul_rate(device, torch.bfloat16):.3f}")
    print(f"ratio={min(found['ours']) / min(found['plain']):.4f}")


if __name__ == "__main__":
    main()
