"""What evaluations share: every video with a truth is scored once, over all processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vocl import dist
from vocl.data.transforms import labels_to_input
from vocl.data.truth import Truth
from vocl.errors import UserError
from vocl.interface import Subject, Video

Scored = tuple[dict[str, Any], Any]


def score_videos(
    subject: Subject,
    split: str,
    max_videos: int | None,
    score: Callable[[Video, Any], Scored],
    kind: type,
) -> tuple[list[dict[str, Any]], list[Any], int]:
    """Rows, what their scores are made of, and the number of videos that were left out for want of a truth.

    `score` says a row and its makings for a video and its truth, which must be a `kind`. Rank r of w
    scores videos r, r + w, ...; all return the same, sorted by the videos' names. Each row gets its
    `video`. The model is in eval mode meanwhile. UserError where no video has a truth.
    """
    source, was_training = subject.source(split), subject.model.training
    subject.model.eval()
    own: list[tuple[str, dict[str, Any], Any]] = []
    count = min(len(source), max_videos or len(source))
    for first in range(0, count, dist.world()):
        index = first + dist.rank()
        video = source[index] if index < count else None
        truth = source.truth(video.name) if video is not None else None
        if truth is not None:
            if not isinstance(truth, kind):
                raise UserError(
                    f"dataset {subject.dataset.name}: the truth of {video.name} is {type(truth).__name__}; "
                    f"this evaluation needs {kind.__name__}"
                )
            own.append((video.name, *score(video, truth)))
        subject.advance()  # by every rank equally often: it may be an agreement
    subject.model.train(was_training)
    found = sorted((entry for part in dist.gather_objects(own) for entry in part), key=lambda entry: entry[0])
    if not found:
        raise UserError(
            f"dataset {subject.dataset.name}: no video of split {split!r} has a truth to score against"
        )
    rows = [{"video": name, **row} for name, row, _ in found]
    return rows, [makings for _, _, makings in found], count - len(rows)


def true_labels(subject: Subject, truth: Truth) -> Tensor:
    """The label map t h w of a video, cut to what the model sees, at its own size; later objects on top."""
    labels = torch.from_numpy(truth.labels("paint")[0])
    return labels_to_input(labels, tuple(subject.dataset.size_px), subject.dataset.fit, resize=False)
