"""Single-object segmentation: one foreground per video, chosen from a model's slots in several ways."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from annotated_types import Gt, Lt
from torch import Tensor

from vocl.config.build import Part
from vocl.data.truth import Truth
from vocl.evaluate.videos import MaskEvaluation, Scored, true_labels
from vocl.interface import VOID, Grid, Report, Segments, Subject, Video
from vocl.metrics.foreground import jaccard, oracle_foreground, patch_ceiling
from vocl.ops.masks import slot_masks
from vocl.ops.selection import Validity


class SingleObject(MaskEvaluation):
    """Mean J over the frames of a video, then over videos; all true objects are one foreground.

    `single_valid_union_j`: the union of the valid slots (`validity`), SMTC's rule in its paper;
    `single_border_j`: of those that do not lie on the border of the frame;
    `single_oracle_j`: slots chosen by the truth in every frame (`vocl.metrics.foreground`);
    `single_best_slot_j`: the one slot of the video with the highest mean J, chosen by the truth;
    `single_patch_ceiling_j`: the truth itself in whole patches, whatever the model says.

    Masks are those of the argmax; a model whose slots are not exclusive has each map stretched to
    0..1 and cut at `threshold`, the oracle's at `oracle_threshold`. Void pixels do not count.
    """

    scores: ClassVar[frozenset[str]] = frozenset(
        {
            "single_valid_union_j",
            "single_border_j",
            "single_oracle_j",
            "single_best_slot_j",
            "single_patch_ceiling_j",
            "num_without_truth",
        }
    )

    def __init__(
        self,
        *,
        threshold: Annotated[float, Gt(0), Lt(1)],
        oracle_threshold: Annotated[float, Gt(0), Lt(1)],
        validity: Part[Validity],
        **rest: Any,
    ) -> None:
        super().__init__(**rest)
        self.threshold, self.oracle_threshold = threshold, oracle_threshold
        self.validity: Validity = validity()

    @torch.no_grad()
    def run(self, subject: Subject) -> Report:
        def score(video: Video, truth: Truth) -> Scored:
            return self._score(subject, video, truth), None

        found = self.score_videos(subject, score, Truth)
        names = [name for name in found.rows[0] if name.startswith("single_")]
        metrics = {name: float(np.mean([row[name] for row in found.rows])) for name in names}
        return found.report("single_object", metrics)

    def _score(self, subject: Subject, video: Video, truth: Truth) -> dict[str, float]:
        labels = true_labels(subject, truth)
        chosen: dict[str, list[Tensor]] = {}
        slots = []
        for frames, segments in self.windows(subject, video, overlapping=True):
            part = labels[frames.start : frames.stop].to(segments.masks.device)
            found, of_slots = self._window(segments, part)
            slots += of_slots
            for name, values in found.items():
                chosen.setdefault(name, []).extend(values)
        row = {f"single_{name}_j": float(torch.stack(values).mean()) for name, values in chosen.items()}
        best = torch.stack(slots).double().mean(0).max(0)
        row |= {"single_best_slot_j": float(best.values), "best_slot": int(best.indices)}
        return row | {"num_frames": truth.length}

    def _window(self, segments: Segments, labels: Tensor) -> tuple[dict[str, list[Tensor]], list[Tensor]]:
        """J of each frame by name, and of each slot; `labels` t h w."""
        masks, scores = segments.masks[0].float(), segments.scores
        valid = self.validity.valid(masks, None if scores is None else scores[0], segments.parent)
        inside = valid & ~self.validity.on_border(masks, segments.parent, segments.grid)
        found: dict[str, list[Tensor]] = {}
        slots = []
        for t, label in enumerate(labels):
            true, void = (label != 0) & (label != VOID), label == VOID
            pixels = slot_masks(
                masks[t], segments.grid, tuple(label.shape), segments.exclusive, self.threshold
            )
            slots.append(jaccard(pixels, true, void).cpu())
            foregrounds = {
                "valid_union": pixels[valid[t]].any(0),
                "border": pixels[inside[t]].any(0),
                "oracle": oracle_foreground(masks[t], segments.grid, true, void, self.oracle_threshold),
                "patch_ceiling": patch_ceiling(true, void, Grid(*segments.grid)),
            }
            for name, foreground in foregrounds.items():
                found.setdefault(name, []).append(jaccard(foreground, true, void).double().cpu())
        return found, slots
