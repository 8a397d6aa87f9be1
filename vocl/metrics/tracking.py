"""Scores of trackers, of slots as tracks: HOTA and its parts, IDF1, and identity switches, by TrackEval.

Luiten et al., "HOTA: A Higher Order Metric for Evaluating Multi-Object Tracking", IJCV 2021; Ristani et al.,
"Performance Measures and a Data Set for Multi-Target, Multi-Camera Tracking", 2016. A slot is a track in the
frames where it has a point. Slots that fit the background best are none: a model that labels every point
would else have nothing but false alarms there. Letters as in `vocl.metrics.contingency`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from vocl.errors import UserError
from vocl.metrics.overlap import iou_matrix

NAMES = ("hota", "deta", "assa", "idf1", "idr", "switches_per_object_frame")
MATCHED = 0.5  # IoU from which a slot is an object's, where one threshold is asked for
Sequences = Mapping[str, Any]  # what TrackEval says of a video, by metric


def refuse_without_library() -> None:
    """Say which extra brings TrackEval, where it is not installed."""
    if importlib.util.find_spec("trackeval") is None:
        raise UserError("tracking: needs the package trackeval; install it by: pip install 'vocl[tracking]'")


def tracks(table: Tensor) -> dict[str, Any]:
    """A video's counts t c k as TrackEval takes tracks: numbers of what is in each frame, and IoU."""
    overlap = iou_matrix(table).cpu().numpy()
    volume = iou_matrix(table.sum(0)).cpu().numpy()
    objects = np.flatnonzero(table[:, 1:].sum((0, 2)).cpu().numpy()) + 1
    slots = np.flatnonzero((volume.argmax(0) > 0) & (volume.max(0) > 0))
    areas = [table.sum(axis).cpu().numpy() > 0 for axis in (2, 1)]
    true = [np.flatnonzero(frame) for frame in areas[0][:, objects]]
    found = [np.flatnonzero(frame) for frame in areas[1][:, slots]]
    return {
        "num_timesteps": len(table),
        "gt_ids": true,
        "tracker_ids": found,
        "similarity_scores": [
            overlap[t][np.ix_(objects[a], slots[b])] for t, (a, b) in enumerate(zip(true, found, strict=True))
        ],
        "num_gt_dets": sum(map(len, true)),
        "num_tracker_dets": sum(map(len, found)),
        "num_gt_ids": len(objects),
        "num_tracker_ids": len(slots),
    }


def track_video(table: Tensor) -> Sequences:
    """What TrackEval says of a video's counts t c k."""
    data = tracks(table)
    return {name: metric.eval_sequence(data) for name, metric in _metrics().items()}


def track_scores(videos: Sequence[Sequences]) -> dict[str, float]:
    """Scores `NAMES` of videos together, as TrackEval adds them up; nan where none has an object."""
    found = {
        name: metric.combine_sequences({str(i): one[name] for i, one in enumerate(videos)})
        for name, metric in _metrics().items()
    }
    truths = float(found["clear"]["CLR_TP"] + found["clear"]["CLR_FN"])
    if not truths:
        return dict.fromkeys(NAMES, np.nan)
    hota, identity = found["hota"], found["identity"]
    scores = {name.lower(): float(np.mean(hota[name])) for name in ("HOTA", "DetA", "AssA")}
    scores |= {name.lower(): float(identity[name]) for name in ("IDF1", "IDR")}
    return scores | {"switches_per_object_frame": float(found["clear"]["IDSW"]) / truths}


def num_switches(video: Sequences) -> int:
    """How often an object of the video gets another track."""
    return int(video["clear"]["IDSW"])


def _metrics() -> dict[str, Any]:
    refuse_without_library()
    from trackeval.metrics import CLEAR, HOTA, Identity

    quiet = {"THRESHOLD": MATCHED, "PRINT_CONFIG": False}
    return {"hota": HOTA(), "identity": Identity(quiet), "clear": CLEAR(quiet)}
