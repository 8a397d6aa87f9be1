"""Which frames make a clip."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from vocl.data.sampling import AtRate, Consecutive, Sampling, Spaced, WholeVideo


def drawn(sampling: Sampling, length: int, times: int = 300) -> list[list[int]]:
    video = SimpleNamespace(length=length)
    return [sampling(video, np.random.default_rng(i)).tolist() for i in range(times)]


def test_consecutive_frames():
    assert {clip[0] for clip in drawn(Consecutive(3, starts="any"), 7)} == {0, 1, 2, 3, 4}
    assert {tuple(clip) for clip in drawn(Consecutive(3, starts="aligned"), 7)} == {(0, 1, 2), (3, 4, 5)}


def test_spaced_frames_around_a_uniform_centre():
    """SMTC: centre c in [8, L - 9] of L frames, indices c - 8, c - 4, c, c + 4."""
    clips = drawn(Spaced(4, gap=4), 30)
    assert all(np.diff(clip).tolist() == [4, 4, 4] for clip in clips)
    centres = Counter(clip[2] for clip in clips)
    assert set(centres) == set(range(8, 22)) and min(centres.values()) > 5


@pytest.mark.parametrize("length", range(4, 40))
def test_the_gap_is_clamped_to_what_fits(length):
    clips = drawn(Spaced(4, gap=4), length, times=30)
    gaps = {tuple(np.diff(clip).tolist()) for clip in clips}
    assert gaps == {(min(4, max((length - 1) // 4, 1)),) * 3}
    assert all(clip[0] >= 0 and clip[-1] < length for clip in clips)


def test_a_rate_is_the_nearest_gap():
    assert AtRate(4, fps=4.0, stored_fps=30.0).gap == 8
    assert AtRate(4, fps=4.0, stored_fps=6.0).gap == 2
    assert AtRate(4, fps=24.0, stored_fps=6.0).gap == 1


def test_whole_videos():
    assert drawn(WholeVideo(10, start="random"), 4, times=1) == [[0, 1, 2, 3, 0, 1, 2, 3, 0, 1]]
    assert drawn(WholeVideo(3, start="first"), 5, times=2) == [[0, 1, 2]] * 2
    assert {tuple(clip) for clip in drawn(WholeVideo(3, start="random"), 5)} == {
        (0, 1, 2),
        (1, 2, 3),
        (2, 3, 4),
    }
    assert WholeVideo(10, start="first").shortest == 1 and Spaced(4, gap=4).shortest == 4
