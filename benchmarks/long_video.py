"""A video of 1 000 frames in one pass of a video level: memory and time against the number of frames.

Run from the repository root: `python benchmarks/long_video.py`. The level is `vocl.nn.levels.VideoLevel`
as `conf/model/interpreter.yaml` has it, with 32 slots a frame, 8 of the video and 4 blocks, but 64 wide
instead of 768 and with 2 heads instead of 12, for a CPU. The pass is that of segmentation: encoder, slot
attention and merging, in float32, two threads. The baseline is the same level with attention written down
directly, which keeps a matrix of all pairs of the t x 32 tokens for each head; it is run as far as its memory
allows here. The exponent of a growth is the slope between the two longest videos, log over log: 1 is linear.

Each figure comes from a process of its own: growth of the resident set at its peak during one pass
(the kernel's VmHWM, reset before), and the best time of the passes.
"""

from __future__ import annotations

import math
import multiprocessing
import time
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from vocl.nn.adapters import MLPAdapter
from vocl.nn.blocks import MultiHeadAttention
from vocl.nn.implicit_slot_attention import ImplicitSlotAttention
from vocl.nn.levels import VideoLevel
from vocl.nn.merging import MergeSimilar
from vocl.nn.slot_init import XavierGaussian
from vocl.nn.transformers import TransformerDecoder, TransformerEncoder

SLOTS, VIDEO_SLOTS, DIM, HEADS, BLOCKS = 32, 8, 64, 2, 4
LENGTHS = (125, 250, 500, 1000)  # frames
COMPARED = 250  # the longest at which the baseline is run


class Figures(NamedTuple):
    """`seconds` of the best pass, `mb` of memory at its peak, and what came out (to be compared)."""

    seconds: float
    mb: float
    sums: tuple[float, ...]


def level() -> VideoLevel:
    torch.manual_seed(0)
    blocks = {"num_blocks": BLOCKS, "num_heads": HEADS, "ffn_dim": 4 * DIM}
    return VideoLevel(
        DIM,
        VIDEO_SLOTS,
        DIM,
        norm_inputs=False,
        encoder=lambda dim: TransformerEncoder(dim, **blocks),
        initializer=XavierGaussian,
        adapter=lambda *sizes: MLPAdapter(*sizes, hidden_ratio=1.0),
        corrector=lambda dim: ImplicitSlotAttention(dim, iterations=3, mlp_dim=4 * dim, prior_grad="none"),
        merge=lambda: MergeSimilar(threshold=0.15, min_clusters=2, steps=1, epochs=1),
        decoder=lambda *sizes: TransformerDecoder(*sizes, dim=DIM, **blocks),
    ).eval()


def plain(self: MultiHeadAttention, x: Tensor, memory: Tensor | None = None, visible: Tensor | None = None):
    """Self-attention as its formula says, with the matrix of all pairs."""
    q, k, v = (y.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for y in self.qkv(x).chunk(3, dim=-1))
    mixed = (q @ k.transpose(-1, -2) * self.scale).softmax(-1) @ v
    return self.out_proj(mixed.transpose(1, 2).flatten(2))


def measure(name: str, frames: int, repeats: int) -> Figures:
    """One way and one length; for a fresh process."""
    torch.set_num_threads(2)
    model = level()
    if name == "plain":
        MultiHeadAttention.forward = plain
    key = torch.tensor([0])
    slots = torch.randn(1, frames, SLOTS, DIM, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model(slots[:, :4], key, VIDEO_SLOTS)  # loads the libraries
        Path("/proc/self/clear_refs").write_text("5")
        before, seconds = status_kb("VmRSS"), []
        for _ in range(repeats):
            start = time.perf_counter()
            found = model(slots, key, VIDEO_SLOTS)
            seconds.append(time.perf_counter() - start)
    sums = tuple(float(x.double().square().sum()) for x in (found.slots, found.attn))
    return Figures(min(seconds), (status_kb("VmHWM") - before) / 1e3, sums)


def status_kb(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def apart(*arguments: str | int) -> Figures:
    """`measure` in a process of its own. Forked: nothing was computed here yet, so no thread is lost."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(measure, arguments)


def exponent(small: float, large: float) -> float:
    """Slope between the two longest videos."""
    return math.log(large / small) / math.log(LENGTHS[-1] / LENGTHS[-2])


def main() -> None:
    baseline = apart("plain", COMPARED, 2)
    ours = {frames: apart("ours", frames, 2 if frames <= COMPARED else 1) for frames in LENGTHS}
    for frames, found in ours.items():
        print(f"frames {frames} tokens {frames * SLOTS} seconds {found.seconds:.2f} memory_mb {found.mb:.0f}")
    print(f"plain frames {COMPARED} seconds {baseline.seconds:.2f} memory_mb {baseline.mb:.0f}")
    same = zip(ours[COMPARED].sums, baseline.sums, strict=True)
    assert all(math.isclose(a, b, rel_tol=1e-4) for a, b in same), (ours[COMPARED], baseline)
    half, whole = (ours[frames] for frames in LENGTHS[-2:])
    print(f"memory_exponent {exponent(half.mb, whole.mb):.2f}")
    print(f"time_exponent {exponent(half.seconds, whole.seconds):.2f}")
    print(f"memory_fraction {ours[COMPARED].mb / baseline.mb:.3f}")
    print(f"ratio={ours[COMPARED].seconds / baseline.seconds:.4f}")


if __name__ == "__main__":
    main()
