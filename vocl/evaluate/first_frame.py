"""Discovery, with scores of the objects that a video begins with."""

from __future__ import annotations

from typing import Any, ClassVar

from vocl.evaluate.discovery import Discovery
from vocl.metrics.contingency import TableMetric
from vocl.metrics.first_frame import FrameAverageIoU, MatchedForegroundARI


class FirstFrameObjects(Discovery):
    """All of `Discovery`'s scores, and two on the objects of a video's first frame (SOLV's protocol).

    `video_miou_frame_avg`: mean over all objects of the data set; `image_fg_ari_matched`: mean over
    frames, then videos. nan in the row of a video that begins without an object. For
    `legacy_rank_bug` see `vocl.metrics.first_frame.relabelled`; it only lowers the two.
    """

    scores: ClassVar[frozenset[str]] = Discovery.scores | frozenset(
        {"video_miou_frame_avg", "image_fg_ari_matched"}
    )

    def __init__(self, *, legacy_rank_bug: bool, **rest: Any) -> None:
        super().__init__(**rest)
        self.legacy_rank_bug = legacy_rank_bug

    def metrics(self) -> dict[str, TableMetric]:
        return super().metrics() | {
            "video_miou_frame_avg": FrameAverageIoU(legacy_rank_bug=self.legacy_rank_bug),
            "image_fg_ari_matched": MatchedForegroundARI(legacy_rank_bug=self.legacy_rank_bug),
        }
