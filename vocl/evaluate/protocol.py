"""A scoring protocol: the choices that make two numbers of one name comparable, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor

from vocl.data.truth import Truth
from vocl.errors import UserError
from vocl.metrics.ari import AdjustedRandIndex
from vocl.metrics.contingency import TableMetric
from vocl.metrics.first_frame import MatchedForegroundARI, MatchedVolumeARI, object_table
from vocl.metrics.frame_average import BestFrameAverage, MatchedFrameAverage
from vocl.metrics.overlap import MeanBestOverlap, MeanIoUVolume, Pairs
from vocl.metrics.presence import (
    AtFrames,
    CorLoc,
    Fragmentation,
    Identification,
    Reappearance,
    SlotSwitchRate,
)


def refuse_clips(protocol: Protocol, what: str) -> None:
    """Refuse clips for scores of whole videos: slots begin anew in each clip, and are no tracks across."""
    if protocol.clip_frames is not None:
        raise UserError(f"protocol.clip_frames={protocol.clip_frames}: {what} are of whole videos; set null")


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How masks meet truth.

    `resolution`: scores count points of the truth's own pixels ("truth"), of the model's input ("input"), or
    of a square of so many pixels; truth is resized by nearest-exact. `overlap`: points that several objects
    claim are void ("drop"), the last object's ("paint") or refused ("error"). `empty`: a frame or video
    without foreground is left out of the foreground ARI ("skip") or counts as 1.0 ("one").

    `background`: it is left out of overlap scores ("ignored") or is one of the objects ("object").
    `objects`: those of all frames, or those of a video's first frame, later ones being background.
    `labels`: the foreground ARI is that of segments as they are ("raw"), or named by the objects that they
    are matched with, the others merged ("matched"). `absent`: what a frame without an object and without its
    segment is worth in means over frames: nothing ("skip"), 1.0 ("one"), 0.0 ("zero"). `assignment`: there
    an object has one segment for the whole video, or another in every "frame". `found_background`: label 0
    of a label map is a "segment" or "nobody"'s; a model's slots are segments all. `clip_frames`: a video is
    scored (and segmented) by clips of so many frames, what is left over dropped; null: whole. `contours`:
    J and F by the rules of DAVIS beside the other scores, at `assignment`. `conditional`: the scores are of
    models that are given the boxes of a video's first frame; others are refused.

    Those with a value here came after the others, so calls without them stay valid.
    """

    name: str
    resolution: Literal["truth", "input"] | Annotated[int, Ge(1)]
    overlap: Literal["drop", "paint", "error"]
    empty: Literal["skip", "one"]
    background: Literal["ignored", "object"] = "ignored"
    objects: Literal["all", "first_frame"] = "all"
    labels: Literal["raw", "matched"] = "raw"
    absent: Literal["skip", "one", "zero"] = "skip"
    assignment: Literal["video", "frame"] = "video"
    found_background: Literal["segment", "nobody"] = "segment"
    clip_frames: Annotated[int, Ge(1)] | None = None
    contours: bool = False
    conditional: bool = False

    def __post_init__(self) -> None:
        if self.contours:
            refuse_clips(self, "J and F")

    @property
    def pairs(self) -> Pairs:
        """Which labels are objects, and which of a label map's numbers are segments."""
        return Pairs(int(self.background == "ignored"), int(self.found_background == "nobody"))

    def discovery_metrics(self) -> dict[str, TableMetric]:
        """The scores of object discovery by name, none of them fed yet."""
        out: dict[str, TableMetric] = {}
        for level in LEVELS:
            out[f"{level}_ari"] = AdjustedRandIndex(level=level, foreground=False, empty=self.empty)
            out[f"{level}_fg_ari"] = self._foreground_ari(level)
            out[f"{level}_mbo"] = MeanBestOverlap(level=level, pairs=self.pairs)
        return out | {"video_miou_volume": MeanIoUVolume(pairs=self.pairs)}

    def object_metrics(self) -> dict[str, TableMetric]:
        """Further scores by name: overlap as a mean over frames, and which objects are found and kept."""
        out: dict[str, TableMetric] = {
            "video_miou_frame_avg": MatchedFrameAverage(
                assignment=self.assignment, absent=self.absent, pairs=self.pairs
            ),
            "video_mbo_frame_avg": BestFrameAverage(absent=self.absent, pairs=self.pairs),
        }
        for level in LEVELS:
            out[f"{level}_corloc"] = CorLoc(level=level, pairs=self._objects)
            out[f"{level}_identification"] = Identification(level=level, pairs=self._objects)
            out[f"{level}_fragmentation"] = Fragmentation(level=level, pairs=self._objects)
        out["slot_switch_rate"] = SlotSwitchRate(pairs=self._objects)
        for name, (shortest, longest) in ABSENCES.items():
            own = Reappearance(shortest=shortest, longest=longest, pairs=self._objects)
            out[f"reappearance{name}"] = own
        for name, (first, last) in PARTS.items():
            for score in ("fg_ari", "mbo"):
                one = self.discovery_metrics()[f"image_{score}"]
                out[f"image_{score}_{name}"] = AtFrames(one, first=first, last=last)
        return out

    @property
    def _objects(self) -> Pairs:
        """As `pairs`; the background, which is nowhere to be found or lost, is no object."""
        return Pairs(1, self.pairs.first_slot)

    def _foreground_ari(self, level: Literal["image", "video"]) -> TableMetric:
        if self.labels == "raw":
            return AdjustedRandIndex(level=level, foreground=True, empty=self.empty)
        kind = MatchedForegroundARI if level == "image" else MatchedVolumeARI
        return kind(legacy_rank_bug=False, objects=self.objects)

    def counted(self, table: Tensor) -> Tensor:
        """Counts t c k with the objects alone that count."""
        return object_table(table, self.objects) if self.objects == "first_frame" else table

    def keeps(self, truth: Truth) -> bool:
        """Whether a video of this truth has an object that counts, as far as can be told without a look at
        its masks."""
        length = truth.length - truth.length % (self.clip_frames or 1)
        last = 1 if self.objects == "first_frame" else length
        return length > 0 and any(any(masks[:last]) for masks in truth.objects)

    def sized(self, labels: Tensor) -> Tensor:
        """Label maps t h w of the truth at the size of scoring; as they are, unless that is in pixels."""
        if not isinstance(self.resolution, int):
            return labels
        square = F.interpolate(labels[:, None].float(), size=(self.resolution,) * 2, mode="nearest-exact")
        return square[:, 0].to(labels.dtype)


ABSENCES = {  # how long an object was away: part of a score's name, and the frames, both inclusive
    "": (1, None),
    "_after_1": (1, 1),
    "_after_2_to_4": (2, 4),
    "_after_5_to_9": (5, 9),
    "_after_10": (10, None),
}
PARTS = {  # of a video, by the index of a frame
    "at_0": (0, 0),
    "at_1_to_5": (1, 5),
    "at_6_to_11": (6, 11),
    "at_12_to_23": (12, 23),
    "at_24": (24, None),
}
LEVELS: tuple[Literal["image", "video"], ...] = ("image", "video")
