"""A model over a whole video, window by window: what evaluations read masks and slots from."""

from __future__ import annotations

from collections.abc import Iterator

from vocl.data.feed import whole_video
from vocl.evaluate.segmenting import segment
from vocl.interface import SegmentOptions, Segments, Subject, Video


def unroll(
    subject: Subject, video: Video, options: SegmentOptions, window: int, overlapping: bool = False
) -> Iterator[tuple[range, Segments]]:
    """(frames, what the model says of them) of consecutive windows of `window` frames of `video`.

    The state is carried on, so memory does not grow with length; a cyclic sweep, and a model that says
    `whole_video`, take the whole video at once. `overlapping`: whether the caller can use masks that are
    not exclusive, else they are refused.
    """
    whole = options.cyclic or getattr(subject.model, "whole_video", False)  # a test's oracle is no VideoModel
    step = video.length if whole else window
    carry = None
    for start in range(0, video.length, step):
        frames = range(start, min(start + step, video.length))
        clip = whole_video(video, subject.dataset, frames.start, frames.stop, options.seed)
        segments = segment(subject.model, clip.to(subject.device), options, carry, overlapping)
        carry = segments.carry
        yield frames, segments
