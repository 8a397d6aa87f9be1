"""One training step of SlotContrast's MOVi-C model: ours against the plain formulation.

Run from the repository root: `python benchmarks/step.py`. The step is: frozen ViT-S/14 (random
weights) on 336 px frames, slots, decoder, both losses, backward, global-norm clip, Adam. On a GPU
up to 64 clips of 4 frames, as published; on a CPU one clip of 2. Both share the ViT and PyTorch's
loop; they alternate, and the last figure compares the best of each: other load only adds.

`flop_share`: floating point operations of the step (matrix products as counted by
torch.utils.flop_counter, ours with its fewer products), per second, over the rate of a large square
matrix product in the same precision measured beside it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import plain
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vocl import assemble
from vocl.config.compose import composed
from vocl.interface import Clip, VideoModel
from vocl.losses.contrast import SlotSlotContrast
from vocl.losses.reconstruction import FeatureMSE
from vocl.nn.execution.compiled import Mode, compiling
from vocl.nn.execution.precision import autocast

SECONDS, MOST, FEWEST = 36.0, 15, 2
CLIP_NORM, LR, CONTRAST, TEMPERATURE = 0.05, 4e-4, 0.5, 0.1
MODEL = [
    "experiment=slotcontrast/movi_c",
    "backbone=tiny_vit",
    *(
        "backbone.native_px=518",
        "backbone.dim=384",
        "backbone.depth=12",
        "backbone.block=12",
        "backbone.num_heads=6",
    ),
]
Losses = tuple[Tensor, Tensor]
Step = Callable[[], Losses]


def make_model(device: torch.device) -> VideoModel:
    """The movi_c model with a random ViT-S/14."""
    torch.manual_seed(0)
    return assemble.make_model(composed(MODEL), pretrained=False).to(device)


def make_clip(device: torch.device) -> Clip:
    """A random clip batch, as large as published where a GPU has room for the plain step."""
    clips, frames = 1, 2
    if device.type == "cuda":
        gib = torch.cuda.get_device_properties(device).total_memory / 2**30
        clips, frames = min(64, int(gib / 1.25)), 4
    video = torch.randn(clips, frames, 3, 336, 336, device=device)
    valid = torch.ones(clips, frames, dtype=torch.bool, device=device)
    return Clip(video, valid, torch.arange(clips, device=device), ("",) * clips)


def make_steps(
    model: VideoModel, clip: Clip, precision: str = "fp32", mode: Mode | None = None
) -> dict[str, Step]:
    """Both steps, each with its own parameters and its own Adam; ours in `precision`, compiled in `mode`."""
    weights = plain.weights_of(model)
    mse, contrast = FeatureMSE(), SlotSlotContrast(temperature=TEMPERATURE, group=None)

    def ours() -> Losses:
        with autocast(precision, clip.key.device):
            output = model(clip)
        return mse(output, clip), contrast(output, clip)

    def baseline() -> Losses:
        tokens = model.backbone(clip.video).tokens
        result = plain.slotcontrast(weights, tokens)
        return plain.feature_loss(result.recon, tokens), plain.contrast_loss(result.slots, TEMPERATURE)

    own = [p for p in model.parameters() if p.requires_grad]
    step = over(ours, own)

    def compiled() -> Losses:
        with compiling(mode):
            return step()

    return {"ours": compiled, "plain": over(baseline, list(weights.values()))}


def over(forward: Callable[[], Losses], parameters: list[nn.Parameter] | list[Tensor]) -> Step:
    """The whole step around `forward`."""
    adam = torch.optim.Adam(parameters, lr=LR, foreach=True)

    def step() -> Losses:
        adam.zero_grad(set_to_none=True)
        reconstruction, contrast = forward()
        (reconstruction + CONTRAST * contrast).backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP_NORM, foreach=True)
        adam.step()
        return reconstruction.detach(), contrast.detach()

    return step


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    synchronise(device)
    start = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - start


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matmul_rate(device: torch.device, dtype: torch.dtype = torch.float32) -> float:
    """Floating point operations per second of a large matrix product, the best of three."""
    size = 8192 if device.type == "cuda" else 1536
    left, right = torch.randn(2, size, size, device=device, dtype=dtype)
    return 2 * size**3 / min(seconds_of(lambda: left @ right, device) for _ in range(3))


def count(step: Step) -> tuple[int, Losses]:
    """Floating point operations of `step`, and its losses."""
    with FlopCounterMode(display=False) as counter:
        losses = step()
    return counter.get_total_flops(), losses


def measure(steps: dict[str, Step], device: torch.device, began: float) -> dict[str, list[float]]:
    """Seconds per step, in alternation, and the device's matmul rate in each round."""
    found: dict[str, list[float]] = {name: [] for name in [*steps, "rate"]}
    last = 0.0
    while len(found["rate"]) < MOST:
        start = time.perf_counter()
        if len(found["rate"]) >= FEWEST and start - began + last > SECONDS:
            break
        for name, step in steps.items():
            found[name].append(seconds_of(step, device))
        found["rate"].append(matmul_rate(device))
        last = time.perf_counter() - start
    return found


def main() -> None:
    began = time.perf_counter()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(2)
    clip = make_clip(device)
    steps = make_steps(make_model(device), clip)
    flops = {}
    losses = {}
    for name, step in steps.items():
        flops[name], losses[name] = count(step)
    for ours, theirs in zip(losses["ours"], losses["plain"], strict=True):
        assert abs(ours - theirs) <= 1e-5 * abs(theirs), f"loss {ours} and {theirs}"
    found = measure(steps, device, began)
    print(f"device {device.type} clips {clip.video.shape[0]} frames {clip.video.shape[1]}")
    for name in steps:
        print(f"step {name} {statistics.median(found[name]):.3f} s {flops[name] / 1e9:.1f} GFLOP")
    print(f"matmul {max(found['rate']) / 1e9:.1f} GFLOP/s, {len(found['rate'])} rounds")
    print(f"flop_share {flops['ours'] / min(found['ours']) / max(found['rate']):.2f}")
    ratio = min(found["ours"]) / min(found["plain"])
    print(f"ratio={ratio:.4f}")


if __name__ == "__main__":
    main()
