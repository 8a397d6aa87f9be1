"""Unsupervised object discovery: a model's masks on whole videos against the true objects."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge

from vocl import dist
from vocl.build import Part
from vocl.data.transforms import labels_to_input
from vocl.data.truth import Truth
from vocl.errors import UserError
from vocl.evaluate.protocol import Protocol
from vocl.evaluate.unroll import unroll
from vocl.interface import Evaluation, Measure, Report, SegmentOptions, Segments, Subject, Video
from vocl.metrics.contingency import TableMetric, contingency, score_video
from vocl.metrics.overlap import scores
from vocl.ops.masks import hard_masks


class Discovery(Evaluation):
    """Soft masks, bilinear to the size of the truth, argmax; one contingency table per video.

    Each video is unrolled whole, `window` frames at a time with the state carried on (memory does
    not grow with length; a cyclic sweep takes the whole video at once). Videos without truth are
    left out, counted by `num_without_truth`. Rank r takes videos r, r + w, ...; rows are gathered
    by name, so that each video counts once whatever the number of ranks.

    A subclass that adds a metric to `metrics` names it in `scores` too.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"masks", "truth"})
    scores: ClassVar[frozenset[str]] = frozenset(
        {
            "image_ari",
            "image_fg_ari",
            "image_mbo",
            "video_ari",
            "video_fg_ari",
            "video_mbo",
            "video_miou_volume",
            "num_without_truth",
        }
    )

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

    def run(self, subject: Subject) -> Report:
        """Score the model; `subject.keep` receives each video's soft masks, uint8 t k n."""
        source, metrics, own = subject.source(self.split), self.metrics(), []
        count = min(len(source), self.max_videos or len(source))
        for first in range(0, count, dist.world()):
            index = first + dist.rank()
            video = source[index] if index < count else None
            truth = source.truth(video.name) if video is not None else None
            if truth is not None:
                own.append({"video": video.name, **self._score(subject, video, truth, metrics)})
            subject.advance()
        rows = [row for part in dist.gather_objects(own) for row in part]
        if not rows:
            raise UserError(
                f"dataset {subject.dataset.name}: no video of split {self.split!r} has a truth to score "
                "against"
            )
        means = _means(metrics) | {"num_without_truth": count - len(rows)}
        measures = {name: Measure(metric.higher_is_better) for name, metric in metrics.items()}
        measures["num_without_truth"] = Measure(higher_is_better=None, scale=1, digits=0)
        return Report(self.protocol.name, sorted(rows, key=lambda row: row["video"]), means, measures)

    def metrics(self) -> dict[str, TableMetric]:
        """The scores by name, none of them fed yet; a subclass may add its own."""
        return scores(empty=self.protocol.empty)

    def _score(
        self, subject: Subject, video: Video, truth: Truth, metrics: dict[str, TableMetric]
    ) -> dict[str, Any]:
        labels, contested = truth.labels(self.protocol.overlap)
        resize, dataset = self.protocol.resolution == "input", subject.dataset
        true = labels_to_input(torch.from_numpy(labels), tuple(dataset.size_px), dataset.fit, resize)
        true, tables, soft = true.to(subject.device), [], []
        for frames, segments in self.windows(subject, video):
            part, masks = true[frames.start : frames.stop], segments.masks
            found = hard_masks(masks, segments.grid, tuple(part.shape[-2:]))[0]
            tables.append(contingency(part, found, len(truth.objects) + 1, masks.shape[2]))
            if subject.keep is not None:
                soft.append((masks[0] * 255).round().to(torch.uint8).cpu())
        if subject.keep is not None:
            subject.keep(video.name, torch.cat(soft).numpy())
        return score_video(metrics, torch.cat(tables)) | {"num_contested_points": contested}

    def windows(self, subject: Subject, video: Video) -> Iterator[tuple[range, Segments]]:
        """(frames, what the model says of them) of consecutive windows of a video."""
        return unroll(subject, video, self.options, self.window)


def _means(metrics: dict[str, TableMetric]) -> dict[str, float]:
    """The means over all ranks; a rank that had no video is no cause for a warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*method of metric .* was called before")
        return {name: float(metric.compute()) for name, metric in metrics.items()}
