"""What a slot knows of its object: its class and its box, read by linear probes on matched slots.

The protocol follows papers since 2025 that report "object recognition" (RandSF.Q, SmoothSA: class accuracy
and box IoU of the matched slot); their probes are small networks, ours are linear, so that the scores are
of the slots and not of the probe. Ours and stated: frames are matched one by one by IoU, ridge regression
for both probes, and objects of classes that training never shows are left out and counted.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Annotated, Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt
from torch import Tensor

from vocl import dist
from vocl.config.build import Part
from vocl.data.annotations import boxes_of
from vocl.data.truth import Truth
from vocl.errors import UserError
from vocl.evaluate.unroll import unroll
from vocl.evaluate.videos import true_labels
from vocl.interface import Evaluation, Measure, Report, SegmentOptions, Subject, Video
from vocl.metrics.contingency import contingency
from vocl.metrics.overlap import iou_matrix
from vocl.ops.masks import hard_masks
from vocl.ops.matching import assign
from vocl.ops.narrow import pair


class Match(NamedTuple):
    """An object in a frame and the slot d that was matched with it; boxes 4 are left, top, right, bottom as
    shares of the frame, `segment` that around the slot's segment."""

    slot: Tensor
    name: str
    box: Tensor
    segment: Tensor


class Matched(NamedTuple):
    """The matches of a video, and how many objects of each class its frames have."""

    matches: list[Match]
    objects: Counter[str]


class Recognition(Evaluation):
    """Class accuracy and box IoU of matched slots, by probes fitted on `train_split`.

    In each frame objects and segments are matched one to one by IoU; a pair below `min_iou` is none, and an
    object without one counts as not recognised. `recognition_accuracy` is over all objects in all frames,
    `recognition_macro_accuracy` the mean over classes, `recognition_box_iou` that of the box that the probe
    reads from the slot, `recognition_segment_box_iou` that of the box around the slot's segment.
    `ridge`: of both regressions, whose inputs have variance 1. Needs a truth with `classes`.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"masks", "slots", "truth"})
    scores: ClassVar[frozenset[str]] = frozenset(
        {
            "recognition_accuracy",
            "recognition_macro_accuracy",
            "recognition_box_iou",
            "recognition_segment_box_iou",
            "recognition_matched",
            "num_unknown",
        }
    )

    def __init__(
        self,
        *,
        split: str,
        train_split: str,
        max_videos: Annotated[int, Ge(1)] | None,
        max_train_videos: Annotated[int, Ge(1)] | None,
        window: Annotated[int, Ge(1)],
        min_iou: Annotated[float, Ge(0)],
        ridge: Annotated[float, Gt(0)],
        options: Part[SegmentOptions],
    ) -> None:
        self.split, self.train_split, self.window = split, train_split, window
        self.max_videos, self.max_train_videos = max_videos, max_train_videos
        self.min_iou, self.ridge, self.options = min_iou, ridge, options()

    @property
    def splits(self) -> tuple[str, ...]:
        """The scored one, and that of the probes."""
        return self.split, self.train_split

    def run(self, subject: Subject) -> Report:
        """Fit the probes, then score the held-out videos."""
        known = [
            m
            for _, found in self._read(subject, self.train_split, self.max_train_videos)
            for m in found.matches
        ]
        classes = sorted({match.name for match in known})
        if len(classes) < 2:
            raise UserError(
                f"eval recognition: {len(classes)} classes of the matched objects of {self.train_split!r}; "
                "a probe needs two"
            )
        wanted = torch.tensor([classes.index(match.name) for match in known])
        probe = Probe(torch.stack([match.slot for match in known]), self.ridge)
        labels = probe.fit(F.one_hot(wanted, len(classes)).double())
        boxes = probe.fit(torch.stack([match.box for match in known]))
        rows, totals = [], Counter[str]()
        right: Counter[str] = Counter()
        for name, found in self._read(subject, self.split, self.max_videos):
            seen = [match for match in found.matches if match.name in classes]
            told = [(match, *_answers(probe, match, labels, boxes, classes)) for match in seen]
            hits = Counter(m.name for m, said, _ in told if said == m.name)
            own = Counter({name: n for name, n in found.objects.items() if name in classes})
            totals, right = totals + own, right + hits
            rows.append(
                {"video": name, **_row(own, hits, told), "num_unknown": found.objects.total() - own.total()}
            )
        return self._report(rows, totals, right)

    def _report(self, rows: list[dict[str, Any]], totals: Counter[str], right: Counter[str]) -> Report:
        """Means over objects in frames."""
        matched = sum(row["num_matched"] for row in rows)

        def mean(name: str) -> float:
            return sum(row[name] * row["num_matched"] for row in rows if row["num_matched"]) / max(matched, 1)

        metrics = {
            "recognition_accuracy": right.total() / max(totals.total(), 1),
            "recognition_macro_accuracy": sum(right[n] / totals[n] for n in totals) / max(len(totals), 1),
            "recognition_box_iou": mean("recognition_box_iou"),
            "recognition_segment_box_iou": mean("recognition_segment_box_iou"),
            "recognition_matched": matched / max(totals.total(), 1),
            "num_unknown": sum(row["num_unknown"] for row in rows),
        }
        return Report(
            "vocl", rows, metrics, {"num_unknown": Measure(higher_is_better=None, scale=1, digits=0)}
        )

    def _read(self, subject: Subject, split: str, most: int | None) -> list[tuple[str, Matched]]:
        """The matched slots of the videos of a split that have objects with classes, by name."""
        source, own = subject.source(split), []
        count = min(len(source), most or len(source))
        for first in range(0, count, dist.world()):
            index = first + dist.rank()
            if index < count:
                video = source[index]
                truth = source.truth(video.name)
                if isinstance(truth, Truth) and truth.classes is not None:
                    own.append((video.name, self._match(subject, video, truth)))
            subject.advance()
        found = sorted((each for part in dist.gather_objects(own) for each in part), key=lambda each: each[0])
        if not any(matched.objects for _, matched in found):
            where = f"dataset {subject.dataset.name}: split {split!r}"
            raise UserError(f"{where} has no object with a class, which eval recognition asks for")
        return found

    def _match(self, subject: Subject, video: Video, truth: Truth) -> Matched:
        true = true_labels(subject, truth)
        boxes = torch.from_numpy(boxes_of(true.numpy(), len(truth.objects)))  # t p 5
        size = torch.tensor([true.shape[2], true.shape[1]] * 2)
        matches: list[Match] = []
        objects: Counter[str] = Counter()
        for frames, found in unroll(subject, video, self.options, self.window):
            assert found.slots is not None and truth.classes is not None
            part, number = true[frames.start : frames.stop], found.masks.shape[2]
            labels = hard_masks(found.masks, found.grid, pair(part.shape[-2:]))[0].cpu()
            table = contingency(part, labels, len(truth.objects) + 1, number)
            around = torch.from_numpy(boxes_of((labels + 1).numpy(), number))
            for t, at in enumerate(frames):
                visible = (table[t, 1:].sum(1) > 0).nonzero().flatten().tolist()
                objects.update(truth.classes[label] for label in visible)
                overlap = iou_matrix(table[t])[1:][visible]
                for row, slot in zip(*assign(overlap.numpy()), strict=True):
                    if overlap[row, slot] > self.min_iou:
                        ends = boxes[at, visible[row], :4] / size, around[t, slot, :4] / size
                        own = found.slots[0, t, slot].double().cpu()
                        matches.append(
                            Match(own, truth.classes[visible[row]], *(end.double() for end in ends))
                        )
        return Matched(matches, objects)


class Probe:
    """Ridge regression from slots m d, shifted and scaled to mean 0 and variance 1, with a constant."""

    def __init__(self, slots: Tensor, ridge: float) -> None:
        self.mean, self.scale = slots.mean(0), slots.std(0, correction=0).clamp(min=1e-6)
        self.known, self.ridge = self.inputs(slots), ridge

    def inputs(self, slots: Tensor) -> Tensor:
        """What the probe sees: m d + 1."""
        return F.pad((slots - self.mean) / self.scale, (0, 1), value=1.0)

    def fit(self, wanted: Tensor) -> Tensor:
        """Weights d + 1 x c for targets m c; the constant is not shrunk."""
        shrink = self.ridge * len(self.known) * torch.eye(self.known.shape[1], dtype=torch.float64)
        shrink[-1, -1] = 0
        return torch.linalg.solve(self.known.T @ self.known + shrink, self.known.T @ wanted)


def _answers(
    probe: Probe, match: Match, labels: Tensor, boxes: Tensor, classes: list[str]
) -> tuple[str, Tensor]:
    """The class and the box that the probes read from a slot."""
    inputs = probe.inputs(match.slot)
    return classes[int((inputs @ labels).argmax())], inputs @ boxes


def _row(own: Counter[str], hits: Counter[str], told: list[tuple[Match, str, Tensor]]) -> dict[str, Any]:
    """The scores of a video; nan where it has no object of a known class, or none was matched."""
    read = [_box_iou(box, match.box) for match, _, box in told]
    around = [_box_iou(match.segment, match.box) for match, _, _ in told]
    return {
        "recognition_accuracy": hits.total() / own.total() if own else math.nan,
        "recognition_box_iou": sum(read) / len(read) if read else math.nan,
        "recognition_segment_box_iou": sum(around) / len(around) if around else math.nan,
        "num_objects": own.total(),
        "num_matched": len(told),
    }


def _box_iou(a: Tensor, b: Tensor) -> float:
    """Intersection over union of two boxes; one whose sides are crossed is empty."""
    low, high = torch.maximum(a[:2], b[:2]), torch.minimum(a[2:], b[2:])
    shared = float((high - low).clamp(min=0).prod())
    areas = [float((box[2:] - box[:2]).clamp(min=0).prod()) for box in (a, b)]
    return shared / max(sum(areas) - shared, 1e-12)
