"""Unsupervised multi-object segmentation as the DAVIS 2019 challenge scores it, and as papers changed it."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from annotated_types import Ge, Gt, Lt
from einops import rearrange
from torch import Tensor

from vocl.data.truth import Truth
from vocl.evaluate.videos import MaskEvaluation, Scored, true_labels
from vocl.interface import VOID, Grid, Measure, Report, Subject, Video
from vocl.metrics.davis import (
    Scores,
    assigned_per_frame,
    assigned_per_video,
    num_objects,
    one_hot,
    pair_scores,
    summary,
)
from vocl.ops.masks import slot_masks, winning_masks

RULES = ("davis_official", "davis_per_frame", "davis_per_frame_soft")


class DavisUnsupervised(MaskEvaluation):
    """J and F of the objects of frame 0, each with a proposal of the model; void does not count.

    `davis_official_*`: proposals do not overlap (the argmax, or where slots are not exclusive, or have
    scores, the most certain map that counts and exceeds `threshold` when stretched to 0..1) and there
    are at most `max_proposals` of them in a video; one assignment per video. `davis_per_frame_*`: the same
    proposals, assigned anew in every frame. `davis_per_frame_soft_*`: maps stretched to 0..1 and cut
    at `threshold` may overlap, any number of them, assigned anew in every frame (SMTC's release).
    Only the first may be compared with official numbers, only the last with SMTC's.

    A slot counts in a frame where its score is at least `min_score`, if the model gives scores. Those of
    highest mean score are a video's proposals, of largest mean area where there are no scores.
    """

    scores: ClassVar[frozenset[str]] = frozenset(
        {
            "davis_official_jf",
            "davis_official_j_mean",
            "davis_official_j_recall",
            "davis_official_j_decay",
            "davis_official_f_mean",
            "davis_official_f_recall",
            "davis_official_f_decay",
            "davis_per_frame_jf",
            "davis_per_frame_j_mean",
            "davis_per_frame_j_recall",
            "davis_per_frame_j_decay",
            "davis_per_frame_f_mean",
            "davis_per_frame_f_recall",
            "davis_per_frame_f_decay",
            "davis_per_frame_soft_jf",
            "davis_per_frame_soft_j_mean",
            "davis_per_frame_soft_j_recall",
            "davis_per_frame_soft_j_decay",
            "davis_per_frame_soft_f_mean",
            "davis_per_frame_soft_f_recall",
            "davis_per_frame_soft_f_decay",
            "num_without_truth",
        }
    )

    def __init__(
        self,
        *,
        max_proposals: Annotated[int, Ge(1)],
        threshold: Annotated[float, Gt(0), Lt(1)],
        min_score: float,
        **rest: Any,
    ) -> None:
        super().__init__(**rest)
        self.max_proposals, self.threshold, self.min_score = max_proposals, threshold, min_score

    @torch.no_grad()
    def run(self, subject: Subject) -> Report:
        def score(video: Video, truth: Truth) -> Scored:
            return self._score(subject, video, truth)

        found = self.score_videos(subject, score, Truth)
        metrics: dict[str, float] = {}
        for name in RULES:
            own = summary([makings[name] for makings in found.makings])
            metrics |= {f"{name}_{key}": value for key, value in own.items()}
        measures = {name: Measure(higher_is_better=False) for name in metrics if name.endswith("decay")}
        return found.report("davis_unsupervised", metrics, measures)

    def _score(self, subject: Subject, video: Video, truth: Truth) -> Scored:
        proposals = self._proposals(subject, video)
        labels = true_labels(subject, truth).numpy()
        count = num_objects(labels, VOID)
        scores = dict.fromkeys(RULES, Scores(*np.zeros((2, 0, 1))))
        if count:
            hard, soft = (
                pair_scores(
                    (found(t, label.shape), one_hot(label, count), label == VOID)
                    for t, label in enumerate(labels)
                )
                for found in (proposals.exclusive_masks, proposals.overlapping_masks)
            )
            matched = (assigned_per_video(hard), assigned_per_frame(hard), assigned_per_frame(soft))
            scores = {name: found for name, (found, _) in zip(RULES, matched, strict=True)}
        row = {
            f"{name}_{key}": float(value.mean()) if count else np.nan
            for name, found in scores.items()
            for key, value in (("jf", (found.j + found.f) / 2), ("j_mean", found.j), ("f_mean", found.f))
        }
        return row | {"num_objects": count, "num_frames": truth.length}, scores

    def _proposals(self, subject: Subject, video: Video) -> Proposals:
        """What the model says of the whole video, on the patch grid."""
        masks, scores = [], []
        for _, segments in self.windows(subject, video, overlapping=True):
            masks.append(segments.masks[0].float())
            if segments.scores is not None:
                scores.append(segments.scores[0])
        soft = torch.cat(masks)
        counts = torch.ones(soft.shape[:2], dtype=torch.bool, device=soft.device)
        rank = soft.mean((0, 2))
        if segments.scores is not None:
            every = torch.cat(scores)
            counts, rank = every >= self.min_score, every.mean(0)
        order = rank.argsort(descending=True, stable=True)[: self.max_proposals]
        partition = segments.exclusive and segments.scores is None
        return Proposals(soft, segments.grid, partition, counts, order, self.threshold)


class Proposals:
    """Soft masks t k n of a video, which slots count in which frame (t k bool), and the best slots (m).

    `partition`: each pixel belongs to the largest of all masks.
    """

    def __init__(
        self, soft: Tensor, grid: Grid, partition: bool, counts: Tensor, best: Tensor, threshold: float
    ) -> None:
        self.soft, self.grid, self.partition, self.counts = soft, grid, partition, counts
        self.best, self.threshold = best, threshold

    def exclusive_masks(self, frame: int, size: tuple[int, int]) -> np.ndarray:
        """Masks m h w (bool) of the best slots, which do not overlap."""
        masks, counts = self.soft[frame], self.counts[frame]
        if self.partition:
            found = slot_masks(masks, self.grid, size, True, self.threshold) & _columns(counts)
        else:
            found = winning_masks(masks, counts, self.grid, size, self.threshold)
        return found[self.best].cpu().numpy()

    def overlapping_masks(self, frame: int, size: tuple[int, int]) -> np.ndarray:
        """Masks k h w (bool) of all slots."""
        found = slot_masks(self.soft[frame], self.grid, size, False, self.threshold)
        return (found & _columns(self.counts[frame])).cpu().numpy()


def _columns(flags: Tensor) -> Tensor:
    return rearrange(flags, "k -> k 1 1")
