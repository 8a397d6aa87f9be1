"""What evaluations share: every video of a split that has a truth is scored once, over all processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor

from vocl import dist
from vocl.config.build import Part
from vocl.data.decoded_ahead import Share, decoded_ahead
from vocl.data.transforms import labels_to_input
from vocl.data.truth import Truth
from vocl.errors import UserError
from vocl.evaluate.unroll import unroll
from vocl.interface import Evaluation, Measure, Report, SegmentOptions, Segments, Source, Subject, Video
from vocl.ops.narrow import pair

Scored = tuple[dict[str, Any], Any]


@dataclass(frozen=True)
class ScoredVideos:
    """Rows, sorted by the videos' names, what each row's scores are made of, and how many videos of the
    split were left out for want of a truth."""

    rows: list[dict[str, Any]]
    makings: list[Any]
    num_without_truth: int

    def report(
        self, protocol: str, metrics: Mapping[str, float], measures: Mapping[str, Measure] | None = None
    ) -> Report:
        """The report with `metrics`, and beside them the number of videos without a truth."""
        uncounted = {"num_without_truth": Measure(higher_is_better=None, scale=1, digits=0)}
        counted = {**metrics, "num_without_truth": self.num_without_truth}
        return Report(protocol, self.rows, counted, {**(measures or {}), **uncounted})


class VideoEvaluation(Evaluation):
    """Scores the videos of `split`, at most `max_videos` of them, `window` frames at a time.

    A subclass defines `run`; if it names its metrics in `scores`, "num_without_truth" is one of them.
    """

    def __init__(
        self, *, split: str, max_videos: Annotated[int, Ge(1)] | None, window: Annotated[int, Ge(1)]
    ) -> None:
        self.split, self.max_videos, self.window = split, max_videos, window

    def score_videos(
        self, subject: Subject, score: Callable[[Video, Any], Scored], kind: type
    ) -> ScoredVideos:
        """`score` says a row and its makings for a video and its truth, which must be a `kind`.

        Rank r of w scores videos r, r + w, ...; all return the same. Each row gets its `video`.
        UserError where no video has a truth.
        """
        source, own = subject.source(self.split), []
        count = min(len(source), self.max_videos or len(source))
        with closing(decoded_ahead(_own_share(source, count))) as shares:
            for video, truth in shares:
                if video is not None and truth is not None:
                    self._refuse_other(subject, video, truth, kind)
                    own.append((video.name, *score(video, truth)))
                del video  # its frames, before those after the next are decoded
                subject.advance()  # by every rank equally often: it may be an agreement
        gathered = (entry for part in dist.gather_objects(own) for entry in part)
        found = sorted(gathered, key=lambda entry: entry[0])
        if not found:
            raise UserError(
                f"dataset {subject.dataset.name}: no video of split {self.split!r} has a truth to score "
                "against"
            )
        rows = [{"video": name, **row} for name, row, _ in found]
        return ScoredVideos(rows, [makings for _, _, makings in found], count - len(rows))

    def _refuse_other(self, subject: Subject, video: Video, truth: Any, kind: type) -> None:
        if not isinstance(truth, kind):
            raise UserError(
                f"dataset {subject.dataset.name}: the truth of {video.name} is {type(truth).__name__}; "
                f"this evaluation needs {kind.__name__}"
            )


def _own_share(source: Source, count: int) -> Iterator[Share]:
    """This rank's videos of the first `count`, and their truths; None where there are too few for all."""
    for first in range(0, count, dist.world()):
        index = first + dist.rank()
        video = source[index] if index < count else None
        yield video, source.truth(video.name) if video is not None else None


class MaskEvaluation(VideoEvaluation):
    """Scores the masks of a model; `options` say how it unrolls a video."""

    needs: ClassVar[frozenset[str]] = frozenset({"masks", "truth"})

    def __init__(self, *, options: Part[SegmentOptions], **rest: Any) -> None:
        super().__init__(**rest)
        self.options: SegmentOptions = options()

    def windows(
        self, subject: Subject, video: Video, overlapping: bool = False, clip_frames: int | None = None
    ) -> Iterator[tuple[range, Segments]]:
        """(frames, what the model says of them) of consecutive windows of a video; see `unroll`.

        At the end `subject.keep` receives the video's soft masks, uint8 t k n.
        """
        soft = []
        for frames, segments in unroll(subject, video, self.options, self.window, overlapping, clip_frames):
            if subject.keep is not None:
                soft.append((segments.masks[0] * 255).round().to(torch.uint8).cpu())
            yield frames, segments
        if soft and subject.keep is not None:
            subject.keep(video.name, torch.cat(soft).numpy())


def true_labels(subject: Subject, truth: Truth) -> Tensor:
    """The label map t h w of a video, cut to what the model sees, at its own size; later objects on top."""
    labels = torch.from_numpy(truth.labels("paint")[0])
    return labels_to_input(labels, pair(subject.dataset.size_px), subject.dataset.fit, resize=False)
