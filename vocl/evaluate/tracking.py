"""Discovery, with scores of slots as tracks of objects, by TrackEval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from vocl.evaluate.discovery import Discovery
from vocl.evaluate.masks.counts import VideoCounts
from vocl.evaluate.protocol import refuse_clips
from vocl.metrics.contingency import TableMetric
from vocl.metrics.davis import Scores
from vocl.metrics.tracking import num_switches, refuse_without_library, track_scores, track_video


class Tracking(Discovery):
    """All of `Discovery`'s scores, and those of `vocl.metrics.tracking`; needs the extra `tracking`."""

    scores: ClassVar[frozenset[str]] = Discovery.scores | frozenset(
        {"hota", "deta", "assa", "idf1", "idr", "switches_per_object_frame"}
    )

    def __init__(self, **rest: Any) -> None:
        refuse_without_library()
        super().__init__(**rest)
        refuse_clips(self.protocol, "tracks")

    def makings(self, counts: VideoCounts, objects: Scores | None) -> tuple[dict[str, Any], Any]:
        video = track_video(counts.table)
        return track_scores([video]) | {"num_switches": num_switches(video)}, (objects, video)

    def combined(self, metrics: dict[str, TableMetric], makings: Sequence[Any]) -> dict[str, float]:
        outlined = [objects for objects, _ in makings]
        return super().combined(metrics, outlined) | track_scores([video for _, video in makings])
