"""A model over a whole video, window by window: what evaluations read masks and slots from."""

from __future__ import annotations

from collections.abc import Iterator

from vocl.data.feed import whole_video
from vocl.evaluate.masks.segmenting import segment
from vocl.interface import SegmentOptions, Segments, Subject, Video


def unroll(
    subject: Subject,
    video: Video,
    options: SegmentOptions,
    window: int,
    overlapping: bool = False,
    clip_frames: int | None = None,
) -> Iterator[tuple[range, Segments]]:
    """(frames, what the model says of them) of consecutive windows of `window` frames of `video`.

    The state is carried on, so memory does not grow with length; a cyclic sweep, and a model that says
    `whole_video`, take the whole video at once. `overlapping`: whether the caller can use masks that are
    not exclusive, else they are refused. `clip_frames`: the video is cut into clips of so many frames, each
    segmented as if it were alone; what is left over is dropped.
    """
    whole = options.cyclic or getattr(subject.model, "whole_video", False)  # a test's oracle is no VideoModel
    clip_length = clip_frames or max(video.length, 1)
    for first in range(0, video.length - video.length % clip_length, clip_length):
        carry = None
        step = clip_length if whole else window
        for start in range(first, first + clip_length, step):
            frames = range(start, min(start + step, first + clip_length))
            dataset, device = subject.dataset, subject.device
            clip = whole_video(video, dataset, frames.start, frames.stop, options.seed, device)
            segments = segment(subject.model, clip, options, carry, overlapping)
            carry = segments.carry
            yield frames, segments
