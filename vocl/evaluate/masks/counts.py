"""From the label maps of a video, true and found, to its scores by a protocol."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vocl.evaluate.protocol import Protocol
from vocl.interface import VOID, Measure
from vocl.metrics.contingency import TableMetric, contingency, score_video
from vocl.metrics.davis import (
    Scores,
    assigned_per_frame,
    assigned_per_video,
    num_objects,
    one_hot,
    pair_scores,
    summary,
)


class VideoCounts:
    """What a video's scores follow from, window by window: one contingency table and, where the protocol has
    `contours`, J and F of every pair. `num_classes`: true labels, the background among them."""

    def __init__(self, protocol: Protocol, num_classes: int) -> None:
        self.protocol, self.num_classes = protocol, num_classes
        self.tables: list[Tensor] = []
        self.pairs: list[Scores] = []
        self.num_objects: int | None = None

    def add(self, true: Tensor, found: Tensor, num_slots: int) -> None:
        """Count the next frames: `true` and `found` t h w, labels of `num_slots` slots."""
        self.tables.append(contingency(true, found, self.num_classes, num_slots))
        if self.protocol.contours:
            self._outline(true.cpu().numpy(), found.cpu().numpy(), num_slots)

    def _outline(self, true: np.ndarray, found: np.ndarray, num_slots: int) -> None:
        if self.num_objects is None:
            self.num_objects = num_objects(true, VOID)
        count, first = self.num_objects, self.protocol.pairs.first_slot
        if count:
            self.pairs.append(
                pair_scores(
                    (one_hot(own + 1 - first, num_slots - first), one_hot(label, count), label == VOID)
                    for own, label in zip(found, true, strict=True)
                )
            )

    @property
    def table(self) -> Tensor:
        """Counts t c k of the objects that count; none where the video is shorter than a clip."""
        if not self.tables:
            return torch.zeros(0, self.num_classes, 2, dtype=torch.int64)
        return self.protocol.counted(torch.cat(self.tables))

    def scored(self, metrics: Mapping[str, TableMetric]) -> tuple[dict[str, Any], Scores | None]:
        """The row of the video, which is added to `metrics`, and J and F of its objects, n t each."""
        row = score_video(metrics, self.table, self.protocol.clip_frames)
        if not self.protocol.contours:
            return row, None
        objects = self._assigned()
        own = {name: getattr(objects, name).mean() if objects.j.size else np.nan for name in objects._fields}
        return row | {f"{name}_mean": float(value) for name, value in own.items()}, objects

    def _assigned(self) -> Scores:
        if not self.pairs:
            return Scores(*np.zeros((2, 0, 1)))
        every = Scores(*(np.concatenate(part, axis=-1) for part in zip(*self.pairs, strict=True)))
        assign = assigned_per_video if self.protocol.assignment == "video" else assigned_per_frame
        return assign(every)[0]


def means(metrics: Mapping[str, TableMetric], objects: Sequence[Scores | None]) -> dict[str, float]:
    """Scores over all videos (of all ranks): those of `metrics`, and J and F of the `objects` of each."""
    with warnings.catch_warnings():  # a rank that had no video is no cause for a warning
        warnings.filterwarnings("ignore", message=".*method of metric .* was called before")
        found = {name: float(metric.compute()) for name, metric in metrics.items()}
    outlined = [each for each in objects if each is not None]
    return found | (summary(outlined) if outlined else {})


def measures(metrics: Mapping[str, TableMetric]) -> dict[str, Measure]:
    """How the scores are read."""
    own = {
        name: Measure(metric.higher_is_better, metric.unit.scale, metric.unit.digits)
        for name, metric in metrics.items()
    }
    return own | {f"{name}_decay": Measure(higher_is_better=False) for name in Scores._fields}
