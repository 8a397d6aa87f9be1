"""One training step of SlotContrast's MOVi-C model in bf16 against the plain formulation in fp32.

Run from the repository root: `python benchmarks/step_bf16.py`. The steps of `benchmarks/step.py`, ours
under autocast as `train.precision=bf16` has it. On a CPU a claim only where it has instructions for
bf16 (`avx512_bf16` or `amx_bf16` in /proc/cpuinfo); `matmul_ratio`: how much of the time of a large
fp32 matrix product the same takes in bf16, the floor of the step's ratio but for its savings.
"""

from __future__ import annotations

import time

import plain
import torch
from step import CONTRAST, SECONDS, TEMPERATURE, Losses, Step, make_clip, make_model, over, seconds_of

from vocl.interface import Clip, VideoModel
from vocl.losses.contrast import SlotSlotContrast
from vocl.losses.reconstruction import FeatureMSE
from vocl.nn.precision import autocast

FEWEST, MOST, LOSS_GAP = 2, 15, 1e-2


def make_steps(model: VideoModel, clip: Clip, device: torch.device) -> dict[str, Step]:
    """Ours in bf16 and the plain one in fp32, each with its own parameters and its own Adam."""
    weights = plain.weights_of(model)
    mse, contrast = FeatureMSE(), SlotSlotContrast(temperature=TEMPERATURE, group=None)

    def ours() -> Losses:
        with autocast("bf16", device):
            output = model(clip)
        return mse(output, clip), contrast(output, clip)

    def baseline() -> Losses:
        tokens = model.backbone(clip.video).tokens
        result = plain.slotcontrast(weights, tokens)
        return plain.feature_loss(result.recon, tokens), plain.contrast_loss(result.slots, TEMPERATURE)

    own = [p for p in model.parameters() if p.requires_grad]
    return {"bf16": over(ours, own), "plain": over(baseline, list(weights.values()))}


def matmul_ratio(device: torch.device) -> float:
    """Time of a large matrix product in bf16 over that in fp32, the best of three each."""
    size = 8192 if device.type == "cuda" else 1536
    left, right = torch.randn(2, size, size, device=device)
    low = left.bfloat16(), right.bfloat16()
    best = [
        min(seconds_of(lambda a=a, b=b: a @ b, device) for _ in range(3)) for a, b in (low, (left, right))
    ]
    return best[0] / best[1]


def main() -> None:
    began = time.perf_counter()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(2)
    clip = make_clip(device)
    steps = make_steps(make_model(device), clip, device)
    losses = {name: step() for name, step in steps.items()}
    loss = {name: float(first + CONTRAST * second) for name, (first, second) in losses.items()}
    assert abs(loss["bf16"] - loss["plain"]) <= LOSS_GAP * loss["plain"], loss
    found: dict[str, list[float]] = {name: [] for name in steps}
    last = 0.0
    while len(found["plain"]) < MOST:
        start = time.perf_counter()
        if len(found["plain"]) >= FEWEST and start - began + last > SECONDS:
            break
        for name, step in steps.items():
            found[name].append(seconds_of(step, device))
        last = time.perf_counter() - start
    print(f"device {device.type} rounds {len(found['plain'])}")
    print(f"loss bf16 {loss['bf16']:.4f} plain {loss['plain']:.4f}")
    print(" ".join(f"{name}_s={min(times):.3f}" for name, times in found.items()))
    print(f"matmul_ratio={matmul_ratio(device):.3f}")
    print(f"ratio={min(found['bf16']) / min(found['plain']):.4f}")


if __name__ == "__main__":
    main()
