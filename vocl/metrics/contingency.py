"""The one table from which the scores of object discovery follow, and what all such scores share.

Letters as in `vocl.interface`, and c true labels: `table[t, c, k]` counts the points of frame t
whose true label is c and whose slot is k. Row 0 is the true background. A video's own table is the
sum over t. Each further score costs c * k operations, never a second pass over the points.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from einops import rearrange
from torch import Tensor

from vocl.interface import VOID, Measure

if TYPE_CHECKING:
    from vocl.metrics.mean import Mean

CHUNK_POINTS = (
    2**18
)  # points coded at a time: the codes of a chunk stay in cache, whatever the video's length
GPU_POINTS = 2**24  # there a chunk costs a few waits for the device, whatever its size


def contingency(truth: Tensor, labels: Tensor, num_classes: int, num_slots: int) -> Tensor:
    """Count the points of each true label and slot, frame by frame: t c k, int64.

    `truth` t h w (uint8 or int64): 0 background, 1 .. num_classes - 1 objects, 255 (`VOID`) points
    that no score may count. `labels` t h w (any integer type): the slot of each point, 0 ..
    num_slots - 1, usually an argmax. Both on the same device; so is the table. Exact: the counts
    are integers throughout.
    """
    assert truth.shape == labels.shape, f"truth {tuple(truth.shape)}, labels {tuple(labels.shape)}"
    assert num_classes <= VOID, f"{num_classes} classes leave no label for void"
    length, height, width = truth.shape
    chunk = CHUNK_POINTS if truth.device.type == "cpu" else GPU_POINTS
    step = max(1, chunk // max(1, height * width))
    table = torch.zeros(length, num_classes, num_slots, dtype=torch.int64, device=truth.device)
    for start in range(0, length, step):
        part = slice(start, start + step)
        table[part] = _count(truth[part], labels[part], num_classes, num_slots)
    return table


def _count(truth: Tensor, labels: Tensor, num_classes: int, num_slots: int) -> Tensor:
    """`contingency` of a few frames by one bincount; int32 codes halve the memory traffic."""
    if truth.numel() == 0:
        return torch.zeros(len(truth), num_classes, num_slots, dtype=torch.int64, device=truth.device)
    assert truth.min() >= 0, "truth has negative labels"
    low, high = labels.aminmax()
    assert low >= 0 and high < num_slots, f"slots {int(low)}..{int(high)} are not within 0..{num_slots - 1}"
    rows = num_classes + 1  # the last row takes what is no class, and is thrown away
    frames = torch.arange(len(truth), dtype=torch.int32, device=truth.device) * (rows * num_slots)
    code = truth.clamp(max=num_classes).to(torch.int32).mul_(num_slots).add_(labels.to(torch.int32))
    code += rearrange(frames, "t -> t 1 1")
    counts = torch.bincount(rearrange(code, "t h w -> (t h w)"), minlength=len(truth) * rows * num_slots)
    counts = rearrange(counts, "(t c k) -> t c k", c=rows, k=num_slots)
    outside = counts[:, num_classes].sum()
    void = (truth == VOID).sum() if outside else 0
    assert outside == void, f"truth has labels outside 0..{num_classes - 1} and {VOID}"
    return counts[:, :num_classes]


class TableMetric:
    """Mean of a score over frames or over videos, accumulated from contingency tables.

    `level` "image": each frame of each video is a sample; "video": each video is one, so a slot that
    changes its object costs. A sample whose score is undefined is not counted; the mean over no
    sample is nan, and several ranks give the same mean as one (`vocl.metrics.mean`).
    Subclasses define `values`.
    """

    higher_is_better: bool | None = True
    tells_chances: ClassVar[bool] = False  # whether rows say how many samples counted: it may be few
    unit: ClassVar[Measure] = Measure()  # its factor and decimals; the direction is `higher_is_better`

    def __init__(self, *, level: Literal["image", "video"]) -> None:
        self.level = level

    def values(self, tables: Tensor) -> Tensor:
        """The score of each sample: tables s c k -> s float64, nan where it does not count."""
        raise NotImplementedError

    def score(self, table: Tensor) -> tuple[float, int]:
        """Sum of the scores of one video (`table` t c k), and how many samples count in it."""
        values = self.values(table if self.level == "image" else table.sum(0, keepdim=True))
        return float(values.nansum()), int((~values.isnan()).sum())

    def update(self, *tables: Tensor) -> None:
        """Add one video: its table t c k, or those of the clips that it is scored by."""
        self._mean.update(*map(self.score, tables))

    def __call__(self, *tables: Tensor) -> Tensor:
        """Add one video; returns its own mean, a float64 scalar."""
        return self._mean(*map(self.score, tables))

    def compute(self) -> Tensor:
        """The mean so far, over all ranks: a float64 scalar."""
        return self._mean.compute()

    @cached_property
    def _mean(self) -> Mean:
        from vocl.metrics.mean import Mean  # torchmetrics takes seconds, which no run needs before it scores

        return Mean()


def score_video(
    metrics: Mapping[str, TableMetric], table: Tensor, clip_frames: int | None = None
) -> dict[str, float]:
    """Add one video to every metric and return its row: its own scores and what they rest on.

    `table` t c k; `clip_frames`: it is scored by clips of so many frames, without what is left over.
    Besides one entry per metric (nan where nothing counts): `num_frames`, `num_empty_frames` (no point of
    any object) and `num_objects` (labels seen in any frame).
    """
    table = table.cpu()  # tiny: many small operations are cheaper there than as many kernel launches
    clips = clips_of(table, clip_frames)
    table = torch.cat(clips) if clips else table[:0]
    visible = table[:, 1:].sum(-1) > 0
    row = {name: float(metric(*clips).cpu()) for name, metric in metrics.items()}
    chances = {
        f"num_{name}_chances": sum(metric.score(clip)[1] for clip in clips)
        for name, metric in metrics.items()
        if metric.tells_chances
    }
    return (
        row
        | chances
        | {
            "num_objects": int(visible.any(0).sum()),
            "num_frames": len(table),
            "num_empty_frames": int((~visible.any(1)).sum()),
        }
    )


def clips_of(table: Tensor, clip_frames: int | None) -> list[Tensor]:
    """The tables of a video's clips of `clip_frames`, what is left over dropped; None: the whole, t c k."""
    if clip_frames is None:
        return [table]
    whole = len(table) - len(table) % clip_frames
    return list(table[:whole].split(clip_frames)) if whole else []
