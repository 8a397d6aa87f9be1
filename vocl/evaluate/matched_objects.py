"""Discovery, with scores of objects that are matched over a video, as a mean over draws of the slots."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge

from vocl.evaluate.first_frame import FirstFrameObjects
from vocl.evaluate.seeds import average
from vocl.interface import Report, Subject
from vocl.metrics.contingency import TableMetric
from vocl.metrics.first_frame import (
    FrameAverageIoU,
    MatchedForegroundARI,
    UnmatchedForegroundARI,
)


class MatchedObjects(FirstFrameObjects):
    """As `FirstFrameObjects`, of more objects and more draws; each video is segmented `num_seeds` times.

    `gt_objects`: those of a video's first frame, or all. `image_fg_ari_unmatched` is
    `image_fg_ari_matched` of the segments as they are: which of the two a paper means is often not
    said. The draws have the seeds `options.seed`, `options.seed` + 1, ...; scores are means over
    them, masks are kept of the first.
    """

    scores: ClassVar[frozenset[str]] = FirstFrameObjects.scores | frozenset({"image_fg_ari_unmatched"})

    def __init__(
        self, *, gt_objects: Literal["first_frame", "all"], num_seeds: Annotated[int, Ge(1)], **rest: Any
    ) -> None:
        super().__init__(**rest)
        self.gt_objects, self.num_seeds = gt_objects, num_seeds

    def run(self, subject: Subject) -> Report:
        """Score the model on every draw."""
        first, reports = self.options, []
        for i in range(self.num_seeds):
            self.options = replace(first, seed=first.seed + i)
            reports.append(super().run(subject if i == 0 else replace(subject, keep=None)))
        self.options = first
        return average(reports)

    def metrics(self) -> dict[str, TableMetric]:
        settings: dict[str, Any] = {"legacy_rank_bug": self.legacy_rank_bug, "objects": self.gt_objects}
        return super().metrics() | {
            "video_miou_frame_avg": FrameAverageIoU(**settings),
            "image_fg_ari_matched": MatchedForegroundARI(**settings),
            "image_fg_ari_unmatched": UnmatchedForegroundARI(**settings),
        }
