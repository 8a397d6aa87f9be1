"""An evaluation decodes the next video while this one is scored, and scores as if it did not."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from made_up import MadeUp, Videos, squares, subject_of
from test_unsupervised_objects import Drawn, scored

from vocl.data import decoded_ahead as ahead
from vocl.data.decoded_ahead import decoded_ahead
from vocl.errors import UserError
from vocl.stop import Stopped

PLACES = [(4, 4), (4, 8), (8, 8), (8, 12)]


class Threaded(MadeUp):
    """It tells which thread asks for which frames of it."""

    in_threads = True
    asked: list[tuple[str, str, int]] = []  # noqa: RUF012

    def frames(self, indices):
        thread = threading.current_thread()
        name = "main" if thread is threading.main_thread() else "thread"
        self.asked.append((self.name, name, len(indices)))
        return super().frames(indices)


class Damaged(Threaded):
    def frames(self, indices):
        super().frames(indices)
        raise UserError(f"{self.name}: frame 2 does not decode")


@pytest.fixture(autouse=True)
def fresh():
    Threaded.asked = []


def videos(kind=Threaded, names="abcd"):
    return [kind(name, squares(PLACES, size=(24, 24 + 8 * i))) for i, name in enumerate(names)]


def report(own, **rest):
    return scored(Drawn(slots=2), Videos(own), **rest)


def test_the_scores_are_those_of_one_video_after_the_other():
    plain, threaded = report(videos(MadeUp)), report(videos())
    assert threaded.rows == plain.rows and threaded.metrics == plain.metrics
    assert Threaded.asked == [(name, "thread", 4) for name in "abcd"]


def test_at_most_one_video_is_ahead():
    told, seen = [], []

    def taken():
        for video in videos():
            told.append(video.name)
            yield video, True

    for video, _ in decoded_ahead(taken()):
        video.frames([0])
        seen.append(len(told))
        assert np.array_equal(video.frames([3, 0, 3]), MadeUp.frames(video.video, [3, 0, 3]))
    assert seen == [2, 3, 4, 4]


def test_a_long_video_is_decoded_ahead_in_part(monkeypatch):
    monkeypatch.setattr(ahead, "MOST_BYTES", 3 * 24 * 24 * 3)
    plain, threaded = report(videos(MadeUp, "a")), report(videos(names="a"))
    assert threaded.rows == plain.rows
    assert ("a", "thread", 3) in Threaded.asked and ("a", "main", 4) in Threaded.asked


def test_a_video_without_a_truth_is_not_decoded():
    own = videos()
    source = Videos(own, {name: truth for name, truth in Videos(own).truths.items() if name != "b"})
    assert len(scored(Drawn(slots=2), source).rows) == 3
    assert {name for name, _, _ in Threaded.asked} == set("acd")


def test_what_does_not_decode_is_told_when_its_turn_comes():
    own, told = [*videos(names="ab"), *videos(Damaged, "c")], []
    with pytest.raises(UserError, match="c: frame 2 does not decode"):
        report(own, advance=lambda: told.append(1))
    assert len(told) == 2  # of the videos before it


def test_a_wish_to_stop_is_heeded_and_leaves_no_thread():
    def stop():
        raise Stopped("asked")

    with pytest.raises(Stopped):
        report(videos(), advance=stop)
    assert len({name for name, _, _ in Threaded.asked}) <= 2
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_a_model_on_another_device_gets_its_frames_there():
    from vocl.data.feed import whole_video

    own = videos(MadeUp, "a")[0]
    dataset = subject_of(Drawn(slots=2), Videos([own])).dataset
    here = whole_video(own, dataset, 0, 4, 0)
    there = whole_video(own, dataset, 0, 4, 0, torch.device("meta"))
    assert there.video.device.type == there.valid.device.type == "meta"
    assert there.video.shape == here.video.shape
