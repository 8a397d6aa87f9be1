"""Seven scores of one video: from its contingency table, against one-hot maps.

Run from the repository root: `python benchmarks/metrics.py`. The clip has the size of a MOVi
evaluation clip, 24 x 336 x 336 with 11 true labels and 11 slots. The baseline is the usual
formulation of the field: both label maps as one-hot float64 tensors, all pair counts from one
einsum over the points, areas from sums of the one-hot maps. It is spared what it often does twice:
one set of one-hot maps and one einsum serve all its scores.

Memory is measured in a process of its own per formulation: after a warm-up on a small clip has
loaded every library, the peak of the resident set is reset by the kernel (/proc/self/clear_refs) and
its growth over the present resident set is read (VmHWM - VmRSS) after one call.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from einops import rearrange, reduce
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.functional import interpolate, one_hot

from vocl.metrics.contingency import contingency, score_video
from vocl.metrics.overlap import scores

CLASSES, SLOTS = 11, 11
NAMES = ("ari", "fg_ari", "mbo")
METRICS = scores(empty="one")  # made once per evaluation


def clip(length: int, size_px: int) -> tuple[Tensor, Tensor]:
    """Smooth regions with noise on top: truth t h w uint8 and slots t h w int64, an argmax."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(length, CLASSES, 12, 12, generator=generator)
    fine = interpolate(coarse, size=(size_px, size_px), mode="bilinear")
    truth = fine.argmax(1)
    labels = fine.add_(torch.randn(fine.shape, generator=generator), alpha=0.3).argmax(1)
    return truth.to(torch.uint8), labels


def by_table(truth: Tensor, labels: Tensor) -> dict[str, float]:
    """This project's way."""
    row = score_video(METRICS, contingency(truth, labels, CLASSES, SLOTS))
    return {name: row[name] for name in row if not name.startswith("num_")}


def by_one_hot(truth: Tensor, labels: Tensor) -> dict[str, float]:
    """The same seven scores from one-hot maps."""
    true = one_hot(rearrange(truth, "t h w -> t (h w)").long(), CLASSES).to(torch.float64)
    slots = one_hot(rearrange(labels, "t h w -> t (h w)"), SLOTS).to(torch.float64)
    both = torch.einsum("tpc,tpk->tck", true, slots)
    true_area, slot_area = (reduce(x, "t p c -> t c", "sum") for x in (true, slots))
    out = {}
    for level, keep in (("image", False), ("video", True)):
        sums = [x.sum(0, keepdim=True) if keep else x for x in (both, true_area, slot_area)]
        iou = sums[0] / (sums[1][:, :, None] + sums[2][:, None, :] - sums[0]).clamp(min=1)
        present = sums[1][:, 1:] > 0
        best = torch.where(present, iou[:, 1:].amax(2), 0).sum(1) / present.sum(1)
        values = (rand_index(sums[0]), rand_index(sums[0][:, 1:]), best.nanmean())
        out |= {f"{level}_{name}": float(v) for name, v in zip(NAMES, values, strict=True)}
    rows, columns = linear_sum_assignment(iou[0, 1:].numpy(), maximize=True)
    out["video_miou_volume"] = float(iou[0, 1:][rows, columns].sum() / present.sum())
    return out


def rand_index(counts: Tensor) -> Tensor:
    """Mean adjusted Rand index of counts t c k, from pairs."""
    total, rows, columns = counts.sum((1, 2)), counts.sum(2), counts.sum(1)
    same = (counts * (counts - 1)).sum((1, 2))
    left, right = (rows * (rows - 1)).sum(1), (columns * (columns - 1)).sum(1)
    expected = left * right / (total * (total - 1)).clamp(min=1)
    limit = (left + right) / 2
    return torch.where(limit == expected, 1.0, (same - expected) / (limit - expected)).mean()


def best_seconds(run: Callable, maps: tuple[Tensor, Tensor], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run(*maps)
        times.append(time.perf_counter() - start)
    return min(times)


def peak_bytes(run: Callable) -> int:
    """Growth of the resident set at its peak during one call; to be called in a fresh process."""
    maps = clip(24, 336)
    run(*clip(2, 16))
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    run(*maps)
    return _status("VmHWM") - before


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def memory(run: Callable) -> int:
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(peak_bytes, run).result()


def main() -> None:
    maps = clip(24, 336)
    ours, theirs = by_table(*maps), by_one_hot(*maps)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert abs(value - theirs[name]) < 1e-12, f"{name}: {value} and {theirs[name]}"
        print(f"{name} {value:.6f}")
    peaks = [memory(run) for run in (by_table, by_one_hot)]
    print(f"peak_memory_mb table {peaks[0] / 1e6:.1f} one_hot {peaks[1] / 1e6:.1f}")
    print(f"peak_memory_fraction {peaks[0] / peaks[1]:.4f}")
    table_s, one_hot_s = best_seconds(by_table, maps, 15), best_seconds(by_one_hot, maps, 5)
    print(f"seconds table {table_s:.4f} one_hot {one_hot_s:.4f}")
    assert peaks[0] <= peaks[1] / 10
    assert table_s <= 0.05 * one_hot_s
    print(f"ratio={table_s / one_hot_s:.4f}")


if __name__ == "__main__":
    main()
