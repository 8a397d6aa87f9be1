"""Discovery, with scores of the objects that a video begins with."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from annotated_types import Ge

from vocl.build import Part
from vocl.evaluate.discovery import Discovery, _means
from vocl.evaluate.report import Report
from vocl.metrics.contingency import TableMetric
from vocl.metrics.first_frame import FrameAverageIoU, MatchedForegroundARI


class FirstFrameObjects(Discovery):
    """All of `Discovery`'s scores, and two on the objects of a video's first frame (SOLV's protocol).

    `video_miou_frame_avg`: mean over all objects of the data set; `image_fg_ari_matched`: mean over
    frames, then videos. nan in the row of a video that begins without an object. For
    `legacy_rank_bug` see `vocl.metrics.first_frame.relabelled`; it only lowers the two.
    """

    def __init__(
        self,
        *,
        split: str,
        max_videos: Annotated[int, Ge(1)] | None,
        window: Annotated[int, Ge(1)],
        protocol: Part,
        options: Part,
        legacy_rank_bug: bool,
    ) -> None:
        super().__init__(
            split=split, max_videos=max_videos, window=window, protocol=protocol, options=options
        )
        self.legacy_rank_bug = legacy_rank_bug
        self.own: dict[str, TableMetric] = {}

    def run(self, *args: Any, **kwargs: Any) -> Report:
        self.own = {
            "video_miou_frame_avg": FrameAverageIoU(legacy_rank_bug=self.legacy_rank_bug),
            "image_fg_ari_matched": MatchedForegroundARI(legacy_rank_bug=self.legacy_rank_bug),
        }
        report = super().run(*args, **kwargs)
        return replace(report, metrics=report.metrics | _means(self.own))

    def _score(self, *args: Any) -> dict[str, float]:
        *before, metrics, keep = args
        return super()._score(*before, metrics | self.own, keep)
