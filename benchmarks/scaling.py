"""What ranks exchange in a step of each published experiment, and how well many GPUs are used, by count.

Run from the repository root: `python benchmarks/scaling.py`. No GPU is needed. The global batch is as
published whatever the number of GPUs. Reduced: what is all-reduced, once per step: gradients as float32.
Efficiency: the time of the step's matrix products on H200s at 0.4 of their dense bf16 rate, over that and
the exchange, which waits for the last gradient. A ring: 2 (n - 1) / n of the bytes at 450 GB/s (NVLink)
within a node of 8, then an eighth of them at 50 GB/s per GPU (400 Gbit/s) between nodes; latency is left
out. `ratio`: the time on 64 GPUs for MOVi-C over that of an exchange which costs nothing.
"""

from __future__ import annotations

import counts

PUBLISHED = (
    "slotcontrast/movi_c",
    "slotcontrast/movi_e",
    "slotcontrast/ytvis2021",
    "videosaur/ytvis2021",
    "solv/ytvis2019",
    "smtc/ytvos",
    "interpreter/movi_e",
)
BETWEEN = 50e9  # bytes per second and GPU between nodes
NODE = 8
GPUS = (2, 8, 64)


def exchange_s(count: int, gpus: int, within: float) -> float:
    """Of `count` float32 numbers between `gpus`."""
    inside, nodes = min(gpus, NODE), max(1, gpus // NODE)
    ring = 2 * 4 * count * (inside - 1) / inside / within
    return ring + 2 * 4 * count / inside * (nodes - 1) / nodes / BETWEEN


def efficiency(counted: counts.Counted, gpus: int) -> float | None:
    """None where the batch does not go into so many."""
    if counted.clips % gpus:
        return None
    peak, within = counts.GPUS["H200"]
    step_s = counted.flops / gpus / (peak * counts.REACHED)
    return step_s / (step_s + exchange_s(counted.reduced, gpus, within))


def main() -> None:
    print(f"experiment | clips x frames | TFLOP | reduced MiB | efficiency on {', '.join(map(str, GPUS))}")
    found = {}
    for name in PUBLISHED:
        counted = counts.count(name)
        found[name] = [efficiency(counted, gpus) for gpus in GPUS]
        told = ", ".join("-" if share is None else f"{share:.3f}" for share in found[name])
        size = f"{counted.clips} x {counted.frames} | {counted.flops / 1e12:.1f}"
        print(f"{name} | {size} | {4 * counted.reduced / 2**20:.1f} | {told}")
    most = found["slotcontrast/movi_c"][-1]
    assert most is not None
    print(f"ratio={1 / most:.3f}")


if __name__ == "__main__":
    main()
