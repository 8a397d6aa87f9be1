"""Single-object segmentation: one foreground per video, chosen from a model's slots in several ways."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor

from vocl.build import Part
from vocl.data.truth import Truth
from vocl.evaluate.unroll import unroll
from vocl.evaluate.videos import Scored, score_videos, true_labels
from vocl.interface import VOID, Evaluation, Grid, Measure, Report, SegmentOptions, Segments, Subject, Video
from vocl.metrics.foreground import jaccard, oracle_foreground, patch_ceiling
from vocl.ops.masks import slot_masks
from vocl.ops.selection import Validity


class SingleObject(Evaluation):
    """Mean J over the frames of a video, then over videos; all true objects are one foreground.

    `single_valid_union_j`: the union of the valid slots (`validity`), SMTC's rule in its paper;
    `single_border_j`: of those that do not lie on the border of the frame;
    `single_oracle_j`: slots chosen by the truth in every frame (`vocl.metrics.foreground`);
    `single_best_slot_j`: the one slot of the video with the highest mean J, chosen by the truth;
    `single_patch_ceiling_j`: the truth itself in whole patches, whatever the model says.

    Masks are those of the argmax; a model whose slots are not exclusive has each map stretched to
    0..1 and cut at `threshold`, the oracle's at `oracle_threshold`. Void pixels do not count.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"masks", "truth"})
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
        split: str,
        max_videos: Annotated[int, Ge(1)] | None,
        window: Annotated[int, Ge(1)],
        threshold: Annotated[float, Gt(0), Lt(1)],
        oracle_threshold: Annotated[float, Gt(0), Lt(1)],
        validity: Part[Validity],
        options: Part[SegmentOptions],
    ) -> None:
        self.split, self.max_videos, self.window = split, max_videos, window
        self.threshold, self.oracle_threshold = threshold, oracle_threshold
        self.validity: Validity = validity()
        self.options: SegmentOptions = options()

    @torch.no_grad()
    def run(self, subject: Subject) -> Report:
        def score(video: Video, truth: Truth) -> Scored:
            return self._score(subject, video, truth), None

        rows, _, lacking = score_videos(subject, self.split, self.max_videos, score, Truth)
        names = [name for name in rows[0] if name.startswith("single_")]
        metrics = {name: float(np.mean([row[name] for row in rows])) for name in names}
        measures = {"num_without_truth": Measure(higher_is_better=None, scale=1, digits=0)}
        return Report("single_object", rows, metrics | {"num_without_truth": lacking}, measures)

    def _score(self, subject: Subject, video: Video, truth: Truth) -> dict[str, float]:
        labels = true_labels(subject, truth)
        chosen: dict[str, list[Tensor]] = {}
        slots, soft = [], []
        for frames, segments in unroll(subject, video, self.options, self.window, overlapping=True):
            part = labels[frames.start : frames.stop].to(segments.masks.device)
            found, of_slots = self._window(segments, part)
            slots += of_slots
            for name, values in found.items():
                chosen.setdefault(name, []).extend(values)
            soft.append((segments.masks[0] * 255).round().to(torch.uint8).cpu())
        if subject.keep is not None:
            subject.keep(video.name, torch.cat(soft).numpy())
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
