"""Unsupervised object discovery: a model's masks on whole videos against the true objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from vocl.config.build import Part
from vocl.data.transforms import labels_to_input
from vocl.data.truth import Truth
from vocl.errors import UserError
from vocl.evaluate.masks.counts import VideoCounts, means, measures
from vocl.evaluate.protocol import Protocol
from vocl.evaluate.videos import MaskEvaluation, Scored, ScoredVideos
from vocl.interface import Report, Source, Subject, Video
from vocl.metrics.contingency import TableMetric
from vocl.metrics.davis import Scores
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

    def check(self, source: Source, where: str) -> None:
        """Refuse a split whose videos the protocol drops all, and one that has none with a truth."""
        videos = (source[i] for i in range(min(len(source), self.max_videos or len(source))))
        truths = (source.truth(video.name) for video in videos)
        kinds = (not isinstance(truth, Truth) or self.protocol.keeps(truth) for truth in truths if truth)
        if not any(kinds):
            raise UserError(
                f"{where}: protocol {self.protocol.name} leaves no object to score in any video "
                f"(clip_frames={self.protocol.clip_frames}, objects={self.protocol.objects})"
            )

    def run(self, subject: Subject) -> Report:
        """Score the model; `subject.keep` receives each video's soft masks, uint8 t k n."""
        metrics = self.metrics()

        def score(video: Video, truth: Truth) -> Scored:
            return self._score(subject, video, truth, metrics)

        found = self.score_videos(subject, score, Truth)
        self._refuse_none_counted(subject, found)
        own = self.combined(metrics, found.makings)
        return found.report(self.protocol.name, own, {k: v for k, v in measures(metrics).items() if k in own})

    def metrics(self) -> dict[str, TableMetric]:
        """The scores by name, none of them fed yet; a subclass may add its own."""
        return self.protocol.discovery_metrics()

    def combined(self, metrics: dict[str, TableMetric], makings: Sequence[Any]) -> dict[str, float]:
        """The scores over all videos, from `metrics` and what `makings` said of each."""
        return means(metrics, makings)

    def makings(self, counts: VideoCounts, objects: Scores | None) -> tuple[dict[str, Any], Any]:
        """What a subclass adds to the row of a video, and what the scores over all videos are made of."""
        return {}, objects

    def true_labels(self, subject: Subject, truth: Truth) -> tuple[Tensor, int]:
        """The label map t h w of a video at the size of scoring, and how many points have several objects."""
        labels, contested = truth.labels(self.protocol.overlap)
        resize, dataset = self.protocol.resolution == "input", subject.dataset
        true = labels_to_input(torch.from_numpy(labels), pair(dataset.size_px), dataset.fit, resize)
        return self.protocol.sized(true).to(subject.device), contested

    def _score(self, subject: Subject, video: Video, truth: Truth, metrics: dict[str, TableMetric]) -> Scored:
        true, contested = self.true_labels(subject, truth)
        counts = VideoCounts(self.protocol, len(truth.objects) + 1)
        first = self.protocol.pairs.first_slot  # slots are segments all: where label 0 is none, from 1 on
        for frames, segments in self.windows(subject, video, clip_frames=self.protocol.clip_frames):
            part, masks = true[frames.start : frames.stop], segments.masks
            found = hard_masks(masks, segments.grid, pair(part.shape[-2:]))[0]
            counts.add(part, found + first, masks.shape[2] + first)
        row, objects = counts.scored(metrics)
        more, makings = self.makings(counts, objects)
        return row | {"num_contested_points": contested} | more, makings

    def _refuse_none_counted(self, subject: Subject, found: ScoredVideos) -> None:
        if any(row["num_objects"] for row in found.rows):
            return
        short = sum(not row["num_frames"] for row in found.rows)
        raise UserError(
            f"dataset {subject.dataset.name}: protocol {self.protocol.name} leaves no object to score in any "
            f"of {len(found.rows)} videos of split {self.split!r} ({short} of them are shorter than its "
            f"clip_frames={self.protocol.clip_frames}, {len(found.rows) - short} have none that counts)"
        )
