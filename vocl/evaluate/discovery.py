"""Unsupervised object discovery: a model's masks on whole videos against the true objects."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from vocl import dist
from vocl.build import Part
from vocl.data.feed import whole_video
from vocl.data.transforms import labels_to_input
from vocl.data.truth import Truth
from vocl.errors import UserError
from vocl.evaluate.protocol import Protocol
from vocl.evaluate.report import Report
from vocl.evaluate.segmenting import segment
from vocl.interface import Evaluation, SegmentOptions, Source, Video, VideoModel
from vocl.metrics.contingency import TableMetric, contingency, score_video
from vocl.metrics.overlap import scores
from vocl.ops.masks import hard_masks
from vocl.settings import Dataset

KeepMasks = Callable[[str, np.ndarray], None]


class Discovery(Evaluation):
    """Soft masks, bilinear to the size of the truth, argmax; one contingency table per video.

    Each video is unrolled whole, `window` frames at a time with the state carried on (memory does
    not grow with length; a cyclic sweep takes the whole video at once). Videos without truth are
    left out, counted by `num_without_truth`. Rank r takes videos r, r + w, ...; rows are gathered
    by name, so that each video counts once whatever the number of ranks.
    """

    def __init__(
        self,
        *,
        split: str,
        max_videos: Annotated[int, Ge(1)] | None,
        window: Annotated[int, Ge(1)],
        protocol: Part[Protocol],
        options: Part[SegmentOptions],
    ) -> None:
        self.split, self.max_videos, self.window = split, max_videos, window
        self.protocol = protocol()
        self.options: SegmentOptions = options()

    def run(
        self,
        model: VideoModel,
        source: Source,
        dataset: Dataset,
        device: torch.device,
        keep: KeepMasks | None = None,
        advance: Callable[[], Any] = lambda: None,
    ) -> Report:
        """Score `model` on `source`; `keep` receives each video's soft masks, uint8 t k n."""
        was_training = model.training
        model.eval()
        metrics = self.metrics()
        own = []
        count = min(len(source), self.max_videos or len(source))
        for first in range(0, count, dist.world()):
            index = first + dist.rank()
            video = source[index] if index < count else None
            truth = source.truth(video.name) if video is not None else None
            if truth is not None:
                own.append(
                    {"video": video.name, **self._score(model, video, truth, dataset, device, metrics, keep)}
                )
            advance()  # by every rank equally often: it may be an agreement
        model.train(was_training)
        rows = [row for part in dist.gather_objects(own) for row in part]
        if not rows:
            raise UserError(
                f"dataset {dataset.name}: no video of split {self.split!r} has a truth to score against"
            )
        means = _means(metrics) | {"num_without_truth": count - len(rows)}
        return Report(self.protocol.name, sorted(rows, key=lambda row: row["video"]), means)

    def metrics(self) -> dict[str, TableMetric]:
        """The scores by name, none of them fed yet; a subclass may add its own."""
        return scores(empty=self.protocol.empty)

    def _score(
        self,
        model: VideoModel,
        video: Video,
        truth: Truth,
        dataset: Dataset,
        device: torch.device,
        metrics: dict[str, TableMetric],
        keep: KeepMasks | None,
    ) -> dict[str, float]:
        labels, contested = truth.labels(self.protocol.overlap)
        resize = self.protocol.resolution == "input"
        true = labels_to_input(torch.from_numpy(labels), tuple(dataset.size_px), dataset.fit, resize).to(
            device
        )
        tables, soft = [], []
        for start, masks, grid in self.windows(model, video, dataset, device):
            part = true[start : start + masks.shape[1]]
            found = hard_masks(masks, grid, tuple(part.shape[-2:]))[0]
            tables.append(contingency(part, found, len(truth.objects) + 1, masks.shape[2]))
            if keep is not None:
                soft.append((masks[0] * 255).round().to(torch.uint8).cpu())
        if keep is not None:
            keep(video.name, torch.cat(soft).numpy())
        return score_video(metrics, torch.cat(tables)) | {"num_contested_points": contested}

    def windows(
        self, model: VideoModel, video: Video, dataset: Dataset, device: torch.device
    ) -> Iterator[tuple[int, Tensor, Any]]:
        """(first frame, soft masks 1 t k n, grid) of consecutive windows of a video."""
        window = video.length if self.options.cyclic else self.window
        carry = None
        for start in range(0, video.length, window):
            stop = min(start + window, video.length)
            clip = whole_video(video, dataset, start, stop, self.options.seed).to(device)
            segments = segment(model, clip, self.options, carry)
            carry = segments.carry
            yield start, segments.masks, segments.grid


def _means(metrics: dict[str, TableMetric]) -> dict[str, float]:
    """The means over all ranks; a rank that had no video is no cause for a warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*method of metric .* was called before")
        return {name: float(metric.compute()) for name, metric in metrics.items()}
