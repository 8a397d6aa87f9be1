"""From J and F of single frames to the scores of the DAVIS benchmark.

Letters: k proposals, n true objects, t frames. Pont-Tuset et al., "The 2017 DAVIS Challenge on Video
Object Segmentation" (2017), sec. 4; Caelles et al., "The 2019 DAVIS Challenge on VOS: Unsupervised
Multi-Object Segmentation" (2019), sec. 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from vocl.metrics.contour import contour_accuracy, region_similarity
from vocl.ops.matching import assign

_DECAY_PARTS = 4


class Scores(NamedTuple):
    """J and F, both of one shape: k n t for pairs, n t for objects."""

    j: np.ndarray
    f: np.ndarray


def pair_scores(frames: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray | None]]) -> Scores:
    """J and F of every pair in every frame, k n t, from (found k h w, truth n h w, void h w) of each.

    All frames have the same k. Empty proposals are added until there are as many as objects.
    """
    both = []
    for found, truth, void in frames:
        lacking = max(len(truth) - len(found), 0)
        found = np.concatenate([found, np.zeros((lacking, *truth.shape[1:]), bool)])
        both.append((region_similarity(found, truth, void), contour_accuracy(found, truth, void)))
    return Scores(*(np.stack(part, axis=-1) for part in zip(*both, strict=True)))


def object_scores(frames: Iterable[tuple[np.ndarray, np.ndarray]]) -> Scores:
    """J and F of each object's own mask in every frame, n t, from (found n h w, truth n h w) of each."""
    rows = [
        [
            (region_similarity(p, g)[0, 0], contour_accuracy(p, g)[0, 0])
            for p, g in zip(found[:, None], truth[:, None], strict=True)
        ]
        for found, truth in frames
    ]
    both = np.array(rows).reshape(len(rows), len(rows[0]), 2)
    return Scores(both[..., 0].T, both[..., 1].T)


def one_hot(labels: np.ndarray, count: int) -> np.ndarray:
    """Masks `count` h w of the labels 1 .. `count` of a map h w."""
    return labels == np.arange(1, count + 1).reshape(-1, 1, 1)


def num_objects(truth: np.ndarray, void: int) -> int:
    """Objects that count, from label maps t h w: up to the largest label of frame 0, as official."""
    first = truth[0]
    return int(first[first != void].max(initial=0))


def assigned_per_video(pairs: Scores) -> tuple[Scores, np.ndarray]:
    """Each object's proposal for the whole video (official): scores n t, and the proposal of each, n.

    One assignment (Hungarian method) that maximises the mean over frames of (J + F) / 2. Objects
    that are left over have empty proposals.
    """
    proposals = _assigned((pairs.j + pairs.f).mean(-1))
    return Scores(*(part[proposals, np.arange(len(proposals))] for part in pairs)), proposals


def assigned_per_frame(pairs: Scores) -> tuple[Scores, np.ndarray]:
    """Each object's proposal anew in every frame: scores n t, and proposals n t.

    A modified evaluation that published numbers of unsupervised methods rest on: J + F is maximised
    in each frame alone, so that an identity that is lost costs nothing. Never lower than the
    official score.
    """
    proposals = np.stack([_assigned(frame) for frame in np.moveaxis(pairs.j + pairs.f, -1, 0)], axis=-1)
    index = (proposals, *np.ogrid[: proposals.shape[0], : proposals.shape[1]])
    return Scores(*(part[index] for part in pairs)), proposals


def _assigned(gain: np.ndarray) -> np.ndarray:
    """The row of each column in the assignment of the highest total of `gain` k n (k >= n)."""
    rows, columns = assign(gain)
    return rows[np.argsort(columns)]


def statistics(values: np.ndarray) -> np.ndarray:
    """Mean, recall (share above 0.5) and decay (mean of the first quarter less that of the last).

    `values` ... t -> ... 3. Quarters share their border frames, as in the official code.
    """
    length = values.shape[-1]
    ends = np.round(np.linspace(1, length, _DECAY_PARTS + 1) + 1e-10).astype(int) - 1
    first, last = values[..., : ends[1] + 1], values[..., ends[-2] : ends[-1] + 1]
    return np.stack([values.mean(-1), (values > 0.5).mean(-1), first.mean(-1) - last.mean(-1)], axis=-1)


def summary(objects: Sequence[Scores]) -> dict[str, float]:
    """Scores over a split by name, means over the objects n of all videos alike: `objects` n t each.

    jf = (mean J + mean F) / 2; recall and decay as `statistics` says. nan without an object.
    """
    means = {}
    for name, part in zip(Scores._fields, zip(*objects, strict=True), strict=True):
        rows = np.concatenate([statistics(values) for values in part])
        means[name] = rows.mean(0) if len(rows) else np.full(3, np.nan)
    named = {
        f"{name}_{statistic}": float(value)
        for name, values in means.items()
        for statistic, value in zip(("mean", "recall", "decay"), values, strict=True)
    }
    return {"jf": (named["j_mean"] + named["f_mean"]) / 2, **named}
