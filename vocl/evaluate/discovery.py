"""Unsupervised object discovery: a model's masks on whole videos against the true objects."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import torch

from vocl.config.build import Part
from vocl.data.transforms import labels_to_input
from vocl.data.truth import Truth
from vocl.evaluate.protocol import Protocol
from vocl.evaluate.videos import MaskEvaluation, Scored
from vocl.interface import Measure, Report, Subject, Video
from vocl.metrics.contingency import TableMetric, contingency, score_video
from vocl.metrics.overlap import scores
from vocl.ops.masks import hard_masks
from vocl.ops.narrow import pair


class Discovery(MaskEvaluation):
    """Soft masks, bilinear to the size of the truth, argmax; one contingency table per video.

    Each video is unrolled whole, `window` frames at a time with the state carried on (memory does
    not grow with length; a cyclic sweep takes the whole video at once). Videos without truth are
    left out, counted by `num_without_truth`. Rank r takes videos r, r + w, ...; rows are gathered
    by name, so that each video counts once whatever the number of ranks.

    A subclass that adds a metric to `metrics` names it in `scores` too.
    """

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

    def __init__(self, *, protocol: Part[Protocol], **rest: Any) -> None:
        super().__init__(**rest)
        self.protocol = protocol()

    def run(self, subject: Subject) -> Report:
        """Score the model; `subject.keep` receives each video's soft masks, uint8 t k n."""
        metrics = self.metrics()

        def score(video: Video, truth: Truth) -> Scored:
            return self._score(subject, video, truth, metrics), None

        found = self.score_videos(subject, score, Truth)
        measures = {name: Measure(metric.higher_is_better) for name, metric in metrics.items()}
        return found.report(self.protocol.name, _means(metrics), measures)

    def metrics(self) -> dict[str, TableMetric]:
        """The scores by name, none of them fed yet; a subclass may add its own."""
        return scores(empty=self.protocol.empty)

    def _score(
        self, subject: Subject, video: Video, truth: Truth, metrics: dict[str, TableMetric]
    ) -> dict[str, Any]:
        labels, contested = truth.labels(self.protocol.overlap)
        resize, dataset = self.protocol.resolution == "input", subject.dataset
        true = labels_to_input(torch.from_numpy(labels), pair(dataset.size_px), dataset.fit, resize)
        true, tables = true.to(subject.device), []
        for frames, segments in self.windows(subject, video):
            part, masks = true[frames.start : frames.stop], segments.masks
            found = hard_masks(masks, segments.grid, pair(part.shape[-2:]))[0]
            tables.append(contingency(part, found, len(truth.objects) + 1, masks.shape[2]))
        return score_video(metrics, torch.cat(tables)) | {"num_contested_points": contested}


def _means(metrics: dict[str, TableMetric]) -> dict[str, float]:
    """The means over all ranks; a rank that had no video is no cause for a warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*method of metric .* was called before")
        return {name: float(metric.compute()) for name, metric in metrics.items()}
