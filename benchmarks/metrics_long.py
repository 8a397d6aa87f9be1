"""The pair counts of a long video: as one contingency table, against one-hot maps.

Run from the repository root: `python benchmarks/metrics_long.py`. The clip has the size of a YouTube-VIS
evaluation video, 36 x 518 x 518 with 26 true labels and 7 slots. Both ways end in the same seven scores. The
baseline is the usual formulation, one-hot float64 maps and an einsum over the points. For a whole video of
this size that would want gigabytes; it is given a frame at a time and its counts are stacked, which spares it
the memory and costs it nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor
from torch.nn.functional import interpolate, one_hot

from vocl.metrics.contingency import contingency, score_video
from vocl.metrics.overlap import scores

LENGTH, SIZE_PX, CLASSES, SLOTS = 36, 518, 26, 7
METRICS = scores(empty="one")


def clip() -> tuple[Tensor, Tensor]:
    """Smooth regions with noise: truth t h w uint8 and slots t h w int64."""
    generator = torch.Generator().manual_seed(0)
    maps = []
    for labels in (CLASSES, SLOTS):
        frames = []
        for _ in range(LENGTH):
            coarse = torch.randn(1, labels, 12, 12, generator=generator)
            frames.append(interpolate(coarse, size=(SIZE_PX, SIZE_PX), mode="bilinear").argmax(1)[0])
        maps.append(torch.stack(frames))
    return maps[0].to(torch.uint8), maps[1]


def by_table(truth: Tensor, labels: Tensor) -> dict[str, float]:
    """This project's way."""
    return score_video(METRICS, contingency(truth, labels, CLASSES, SLOTS))


def by_one_hot(truth: Tensor, labels: Tensor) -> dict[str, float]:
    """The same scores from counts of one-hot maps."""
    counts = []
    for true, found in zip(truth, labels, strict=True):
        one, other = (
            one_hot(rearrange(maps, "h w -> (h w)").long(), number).to(torch.float64)
            for maps, number in ((true, CLASSES), (found, SLOTS))
        )
        counts.append(torch.einsum("pc,pk->ck", one, other))
    return score_video(METRICS, torch.stack(counts).long())


def seconds(run: Callable, maps: tuple[Tensor, Tensor]) -> float:
    start = time.perf_counter()
    run(*maps)
    return time.perf_counter() - start


def main() -> None:
    maps = clip()
    ours, theirs = by_table(*maps), by_one_hot(*maps)
    assert ours == theirs, (ours, theirs)
    times: dict[Callable, list[float]] = {by_table: [], by_one_hot: []}
    for _ in range(3):
        for run, found in times.items():
            found += [seconds(run, maps) for _ in range(3 if run is by_table else 1)]
    table_s, one_hot_s = (min(found) for found in times.values())
    print(f"seconds table {table_s:.4f} one_hot {one_hot_s:.4f}")
    assert table_s <= 0.05 * one_hot_s
    print(f"ratio={table_s / one_hot_s:.4f}")


if __name__ == "__main__":
    main()
