"""Scores of masks that some method has found, against their truth: no model, no run, no GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vocl.data.images import by
from vocl.errors import UserError, brief
from vocl.evaluate.masks.counts import VideoCounts, means, measures
from vocl.evaluate.masks.pairs import Pair
from vocl.evaluate.protocol import Protocol, refuse_clips
from vocl.interface import VOID, Measure
from vocl.metrics.tracking import num_switches, refuse_without_library, track_scores, track_video


@dataclass(frozen=True)
class SetScores:
    """Scores over all videos, how each is read, a row for each video, and what a reader must know."""

    metrics: dict[str, float]
    measures: dict[str, Measure]
    rows: list[dict[str, Any]]
    notes: list[str]


def score_set(
    pairs: Iterator[Pair], protocol: Protocol, tracking: bool, told: Callable[[str], Any] = lambda name: None
) -> SetScores:
    """Score every pair by `protocol`; `tracking`: as tracks, too. `told` hears of each video. UserError."""
    if tracking:
        refuse_without_library()
        refuse_clips(protocol, "tracks")
    metrics = protocol.discovery_metrics() | protocol.object_metrics()
    rows, objects, videos, notes = [], [], [], list[str]()
    for pair in pairs:
        told(pair.name)
        notes.extend(pair.notes)
        counts, contested = _counted(pair, protocol)
        row, own = counts.scored(metrics)
        objects.append(own)
        if tracking:
            videos.append(track_video(counts.table))
            row |= track_scores(videos[-1:]) | {"num_switches": num_switches(videos[-1])}
        rows.append({"video": pair.name, **row, **contested})
    _refuse_none(rows, protocol)
    found = means(metrics, objects) | (track_scores(videos) if tracking else {})
    return SetScores(found, measures(metrics), rows, [*notes, *_notes(found, rows, protocol)])


def _counted(pair: Pair, protocol: Protocol) -> tuple[VideoCounts, dict[str, int]]:
    """What the scores of a video follow from, and how many points several true or found objects claim."""
    try:
        true, contested = pair.truth.labels(protocol.overlap)
    except UserError as error:
        raise UserError(f"video {brief(pair.name)}: {error}") from None
    found, twice = pair.found.labels("paint")
    if true.shape[1:] != found.shape[1:] and not isinstance(protocol.resolution, int):
        raise UserError(
            f"video {brief(pair.name)}: its masks have {by(found.shape[1:])} pixels, the truth "
            f"{by(true.shape[1:])}; resize them, or score a square of so many pixels: protocol.resolution=224"
        )
    found = np.where(found == VOID, 0, found)  # what a method says nothing of is nobody's
    used = np.bincount(found.ravel(), minlength=1) > 0
    used[0] = True  # whether or not any point is nobody's
    compact = (np.cumsum(used) - 1).astype(np.uint8)[found]
    whole = len(true) - len(true) % (protocol.clip_frames or 1)
    counts = VideoCounts(protocol, int(true[true != VOID].max(initial=0)) + 1)
    for start in range(0, whole, WINDOW):
        part = slice(start, min(start + WINDOW, whole))
        sized: Sequence[Tensor] = [
            protocol.sized(torch.from_numpy(np.ascontiguousarray(maps[part]))) for maps in (true, compact)
        ]
        counts.add(sized[0], sized[1], max(int(used.sum()), 2))
    return counts, {"num_contested_points": contested, "num_found_twice": twice}


WINDOW = 16  # frames counted at a time


def _refuse_none(rows: Sequence[dict[str, Any]], protocol: Protocol) -> None:
    if not any(row["num_objects"] for row in rows):
        settings = f"clip_frames={protocol.clip_frames}, objects={protocol.objects}"
        raise UserError(
            f"the truth has no object that protocol {protocol.name} counts in any of {len(rows)} videos "
            f"({settings}; 0 is background, {VOID} void: where {VOID} is the object, set binary=true)"
        )


def _notes(found: dict[str, float], rows: Sequence[dict[str, Any]], protocol: Protocol) -> Iterator[str]:
    without = sum(not row["num_objects"] for row in rows)
    if without:
        yield f"{without} of {len(rows)} videos have no object that counts"
    empty = sum(row["num_empty_frames"] for row in rows)
    if empty:
        worth = "count as 1 in" if protocol.empty == "one" else "are left out of"
        yield f"{empty} frames without an object {worth} the foreground ARI"
    contested = sum(row["num_contested_points"] for row in rows)
    if contested:
        yield f"{contested} points of several objects: overlap={protocol.overlap}"
    twice = sum(row["num_found_twice"] for row in rows)
    if twice:
        yield f"{twice} points of several found objects: the more certain or later one has them"
    if protocol.conditional:
        yield "the protocol is of models that start from first-frame boxes; masks do not say if these did"
    undefined = [name for name, value in found.items() if value != value]
    if undefined:
        yield f"undefined, as nothing counts in them: {', '.join(undefined)}"
