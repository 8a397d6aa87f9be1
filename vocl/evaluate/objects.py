"""Discovery, with scores that tell which objects are found, by how many slots, and who keeps its slot."""

from __future__ import annotations

from typing import ClassVar

from vocl.evaluate.discovery import Discovery
from vocl.metrics.contingency import TableMetric


class Objects(Discovery):
    """All of `Discovery`'s scores, and more of the same counts (`vocl.metrics.frame_average`, `presence`).

    `slot_switch_rate`: of steps between frames, those in which an object changes its slot;
    `reappearance_after_*`: of objects that were away for so many frames, those that get their slot again;
    `image_*_at_*`: the score of frames of such an index alone.
    """

    scores: ClassVar[frozenset[str]] = Discovery.scores | frozenset(
        {
            "video_miou_frame_avg",
            "video_mbo_frame_avg",
            "image_corloc",
            "image_identification",
            "image_fragmentation",
            "video_corloc",
            "video_identification",
            "video_fragmentation",
            "slot_switch_rate",
            "reappearance",
            "reappearance_after_1",
            "reappearance_after_2_to_4",
            "reappearance_after_5_to_9",
            "reappearance_after_10",
            "image_fg_ari_at_0",
            "image_mbo_at_0",
            "image_fg_ari_at_1_to_5",
            "image_mbo_at_1_to_5",
            "image_fg_ari_at_6_to_11",
            "image_mbo_at_6_to_11",
            "image_fg_ari_at_12_to_23",
            "image_mbo_at_12_to_23",
            "image_fg_ari_at_24",
            "image_mbo_at_24",
        }
    )

    def metrics(self) -> dict[str, TableMetric]:
        return super().metrics() | self.protocol.object_metrics()
