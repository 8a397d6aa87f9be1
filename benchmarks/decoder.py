"""The MLP decoder, forward and backward: ours against the formula written down directly.

Run from the repository root: `python benchmarks/decoder.py`. MOVi-C's decoder (24 x 24 patches, 11
slots of width 64, 3 hidden layers of 1024, 384 + 1 outputs) on one clip of 4 frames, float32, two
CPU threads. The two alternate, so that a neighbour's load hits both, and the last figure compares
the best of each: such load only adds. Peak memory is measured in a process of its own for each: growth
of the resident set at its peak (the kernel's VmHWM, reset before) during one forward and backward.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import plain
import torch
from torch import Tensor

from vocl.interface import Grid
from vocl.nn.decoders.broadcast import MLPDecoder

FRAMES, SLOTS, SLOT_DIM, FEATURE_DIM, GRID = 4, 11, 64, 384, Grid(24, 24)
SECONDS, MOST, FEWEST = 36.0, 15, 2
Run = Callable[[Tensor], tuple[Tensor, Tensor]]


def setup() -> tuple[MLPDecoder, Tensor, Tensor]:
    """Decoder, slots 1 t k d that take a gradient, and target 1 t n e."""
    torch.manual_seed(0)
    model = MLPDecoder(SLOT_DIM, FEATURE_DIM, GRID, hidden_dim=1024, num_layers=3)
    slots = torch.randn(1, FRAMES, SLOTS, SLOT_DIM, requires_grad=True)
    return model, slots, torch.randn(1, FRAMES, GRID.rows * GRID.columns, FEATURE_DIM)


def formulations(model: MLPDecoder) -> dict[str, Run]:
    """Slots to (recon, masks), both from the parameters of `model`."""
    weights = dict(model.named_parameters())

    def ours(slots: Tensor) -> tuple[Tensor, Tensor]:
        decoded = model(slots)
        return decoded.recon, decoded.masks

    return {"ours": ours, "plain": lambda slots: plain.decoder(weights, slots)}


def step(run: Run, model: MLPDecoder, slots: Tensor, target: Tensor) -> tuple[Tensor, ...]:
    """One forward and backward; returns the outputs."""
    model.zero_grad(set_to_none=True)
    slots.grad = None
    recon, masks = run(slots)
    ((recon - target).square().mean() + 0.1 * masks.square().mean()).backward()
    return recon.detach(), masks.detach()


@torch.no_grad()
def assert_equal(runs: dict[str, Run], slots: Tensor) -> None:
    """Outputs agree to 1e-5. (Gradients are compared in float64 by the tests: in float32 a hidden
    value next to 0 may fall on either side of the ReLU's kink, in either formulation.)"""
    for ours, theirs in zip(runs["ours"](slots), runs["plain"](slots), strict=True):
        assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


def peak_mb(name: str) -> float:
    """Peak memory of formulation `name`, from a process of its own."""
    command = [sys.executable, __file__, "--peak", name]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def print_peak(name: str) -> None:
    model, slots, target = setup()
    run = formulations(model)[name]
    step(run, model, slots[:, :, :1].detach().requires_grad_(), target)  # loads the libraries
    model.zero_grad(set_to_none=True)
    Path("/proc/self/clear_refs").write_text("5")
    before = status_kb("VmRSS")
    step(run, model, slots, target)
    print((status_kb("VmHWM") - before) / 1e3)


def status_kb(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def main() -> None:
    torch.set_num_threads(2)
    if sys.argv[1:2] == ["--peak"]:
        print_peak(sys.argv[2])
        return
    began = time.perf_counter()
    peaks = {name: peak_mb(name) for name in ("ours", "plain")}
    print(f"peak_memory_mb ours {peaks['ours']:.0f} plain {peaks['plain']:.0f}")
    print(f"peak_memory_fraction {peaks['ours'] / peaks['plain']:.3f}")
    model, slots, target = setup()
    runs = formulations(model)
    assert_equal(runs, slots)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    while len(seconds["ours"]) < MOST:
        pair = sum(values[-1] for values in seconds.values() if values)
        if len(seconds["ours"]) >= FEWEST and time.perf_counter() - began + pair > SECONDS:
            break
        for name, run in runs.items():
            start = time.perf_counter()
            step(run, model, slots, target)
            seconds[name].append(time.perf_counter() - start)
    for name, values in seconds.items():
        print(
            f"seconds {name} {statistics.median(values):.3f} median of {len(values)}, {min(values):.3f} best"
        )
    ratio = min(seconds["ours"]) / min(seconds["plain"])
    print(f"ratio={ratio:.4f}")


if __name__ == "__main__":
    main()
