"""Batches: a pure function of the step, whatever prepares them."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections import Counter
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from vocl import dist
from vocl.config.sections import Dataset
from vocl.data import loaders
from vocl.data.augment import Geometric, Photometric
from vocl.data.feed import Feed, whole_video
from vocl.data.sampling import WholeVideo
from vocl.errors import UserError
from vocl.stop import NOT_FOR_HELPERS

SETTINGS = Dataset(
    name="counted",
    source=None,
    size_px=[8, 12],
    fit="stretch",
    normalise="half",
    clip_frames=2,
    clip_starts="any",
    flip=0.0,
    reverse=0.0,
    sampling=None,
    augment=[],
    first_batches=None,
    views=0,
)


class Counted:
    """Video i has red = i in every pixel, green = the frame's number, blue = the column."""

    def __init__(self, num_videos=5, length=7):
        self.num_videos, self.length, self.size = num_videos, length, (8, 12)

    def __len__(self):
        return self.num_videos

    def __getitem__(self, index):
        return Numbered(index, self.length)

    def truth(self, name):
        return None


class Numbered:
    def __init__(self, index, length):
        self.name, self.index, self.length, self.size = f"video{index}", index, length, (8, 12)

    def frames(self, indices):
        out = np.zeros((len(indices), 8, 12, 3), np.uint8)
        out[..., 0] = self.index
        out[..., 1] = np.asarray(list(indices))[:, None, None]
        out[..., 2] = np.arange(12)
        return out


def make(source=None, batch=4, frames=2, seed=0, sampling=None, **changes):
    settings = replace(SETTINGS, **changes)
    return Feed(Counted() if source is None else source, settings, seed, batch, frames, sampling)


def raw(video):
    """The stored values of `video` b t c h w."""
    return ((video * 0.5 + 0.5) * 255).round().long()


def equal(a, b):
    assert torch.equal(a.video, b.video) and torch.equal(a.key, b.key) and a.names == b.names
    assert torch.equal(a.frames, b.frames) and torch.equal(a.flipped, b.flipped)
    assert all(torch.equal(x, y) for x, y in zip(a.views, b.views, strict=True))


def test_a_batch_depends_on_its_step_alone():
    feed, other = make(flip=0.5, reverse=0.5), make(flip=0.5, reverse=0.5)
    later = feed.batch(40)
    equal(later, other.batch(40))
    equal(feed.batch(3), other.batch(3))
    first = feed.batch(3)
    assert first.video.shape == (4, 2, 3, 8, 12) and first.valid.all() and first.masks is None
    assert len(set(feed.batch(0).key.tolist()) | set(feed.batch(1).key.tolist())) == 8
    assert not torch.equal(make(seed=1).batch(3).key, first.key)


def test_the_first_batches_again_and_again():
    whole, some = make(flip=0.5), make(flip=0.5, first_batches=2)
    for step in range(5):
        equal(some.batch(step), whole.batch(step % 2))


def test_every_video_once_per_epoch():
    feed = make(batch=4)
    names = [name for step in range(10) for name in feed.batch(step).names]
    epochs = [names[i : i + 5] for i in range(0, 40, 5)]
    assert all(len(set(epoch)) == 5 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1  # in a new order


def test_the_slices_of_the_ranks_are_the_batch():
    whole = make(batch=6, flip=0.5).batch(11)
    for world in (2, 3):
        parts = []
        for rank in range(world):
            with dist.pretend(world, rank):
                parts.append(make(batch=6, flip=0.5).batch(11))
        assert torch.equal(torch.cat([p.video for p in parts]), whole.video)
        assert torch.equal(torch.cat([p.key for p in parts]), whole.key)
        assert tuple(n for p in parts for n in p.names) == whole.names
    with dist.pretend(4, 0), pytest.raises(UserError, match=r"train\.batch=6: not a multiple of the 4"):
        make(batch=6)


def test_starts_flips_and_directions():
    def seen(**changes):
        feed = make(batch=50, frames=3, **changes)
        return raw(torch.cat([feed.batch(step).video for step in range(4)]))

    video = seen()
    starts = Counter(video[:, 0, 1, 0, 0].tolist())
    assert set(starts) == {0, 1, 2, 3, 4} and min(starts.values()) > 20
    assert (video[:, :, 1, 0, 0].diff(dim=1) == 1).all()
    assert (video[:, :, 2, 0].diff(dim=-1) == 1).all()
    assert set(seen(clip_starts="aligned")[:, 0, 1, 0, 0].tolist()) == {0, 3}
    assert (seen(flip=1.0)[:, :, 2, 0].diff(dim=-1) == -1).all()
    assert (seen(reverse=1.0)[:, :, 1, 0, 0].diff(dim=1) == -1).all()
    half = seen(flip=0.5)[:, :, 2, 0, 0]
    assert (half[:, 0] == half[:, -1]).all()  # one draw per clip
    assert 60 < int((half[:, 0] > 0).sum()) < 140


def test_a_clip_as_long_as_the_video():
    assert raw(make(frames=7).batch(0).video)[0, :, 1, 0, 0].tolist() == list(range(7))
    with pytest.raises(UserError, match=r"clip_frames=8: 5 of 5 .* first is video0 with 7 frames"):
        make(frames=8).check()
    with pytest.raises(UserError, match="no videos"):
        make(Counted(num_videos=0)).check()


def test_crops_are_drawn_per_clip():
    class Wide(Counted):
        def __getitem__(self, index):
            video = Numbered(index, self.length)
            frames = video.frames
            video.frames = lambda indices: np.tile(frames(indices), (1, 1, 2, 1))
            return video

    feed = make(Wide(), batch=32, fit="crop")
    lefts = raw(feed.batch(0).video)[:, 0, 2, 0, 0]
    assert len(set(lefts.tolist())) > 5
    equal(feed.batch(2), make(Wide(), batch=32, fit="crop").batch(2))


def test_a_clip_says_which_frames_it_shows_and_whether_they_are_mirrored():
    feed = make(batch=64, frames=3, flip=0.5, reverse=0.5)
    clip = feed.batch(5)
    assert torch.equal(raw(clip.video)[:, :, 1, 0, 0], clip.frames)
    mirrored = raw(clip.video)[:, 0, 2, 0, 0] > raw(clip.video)[:, 0, 2, 0, -1]
    assert torch.equal(mirrored, clip.flipped) and 0 < int(mirrored.sum()) < 64
    whole = whole_video(Counted()[0], SETTINGS, 2, 5, seed=0)
    assert whole.frames.tolist() == [[2, 3, 4]] and whole.flipped.tolist() == [False]


def test_whole_videos_are_repeated_to_the_length():
    feed = make(frames=17, sampling=partial(WholeVideo, start="first"))
    feed.check()  # of 7 frames each
    clip = feed.batch(0)
    assert clip.frames[0].tolist() == [i % 7 for i in range(17)] and clip.valid.all()
    assert torch.equal(raw(clip.video)[:, :, 1, 0, 0], clip.frames)


class Half(Geometric):
    """The left or the right half."""

    def window(self, size, generator):
        right = int(torch.randint(2, (), generator=generator))
        return 0, right * size[1] // 2, size[0], size[1] // 2


class Shade(Photometric):
    """Red is drawn anew."""

    def __call__(self, frames, generator):
        out = frames.clone()
        out[:, 0] = torch.rand((), generator=generator)
        return out


def test_views_share_the_geometry_and_differ_in_colour():
    feed = make(batch=32, views=2, augment=[Shade, Half], flip=0.5)
    clip = feed.batch(0)
    assert len(clip.views) == 2 and clip.views[0].shape == clip.video.shape
    shown = [raw(view) for view in (clip.video, *clip.views)]
    assert all(torch.equal(view[:, :, 1:], shown[0][:, :, 1:]) for view in shown)
    reds = torch.stack([view[:, :, 0] for view in shown])
    assert len(set(reds[..., 0, 0, 0].flatten().tolist())) > 32  # each clip and view its own
    assert (reds == reds[:, :, :1, :1, :1]).all()  # one draw for all frames of a clip
    columns = shown[0][:, 0, 2, 0].float().mean(-1)
    assert (columns < 4).any() and (columns > 7).any()
    equal(clip, make(batch=32, views=2, augment=[Shade, Half], flip=0.5).batch(0))
    with dist.pretend(2, 1):
        half = make(batch=32, views=2, augment=[Shade, Half], flip=0.5).batch(0)
    assert torch.equal(half.views[1], clip.views[1][16:])


def test_views_do_not_disturb_the_clip():
    plain = make(batch=8, flip=0.5, augment=[Half]).batch(1)
    assert torch.equal(plain.video, make(batch=8, flip=0.5, views=1, augment=[Half]).batch(1).video)


class Beside(Geometric):
    def window(self, size, generator):
        return 3, 0, size[0], size[1]


class Grey(Photometric):
    def __call__(self, frames, generator):
        return frames[:, :1]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Beside, r"Beside: a window .* of \(3, 0, 8, 12\) in a frame of 8 x 12"),
        (Grey, r"Grey: made frames of shape \[2, 1, 8, 12\] of those of \[2, 3, 8, 12\]"),
    ],
)
def test_what_an_augmentation_must_not_do_is_refused(kind, said):
    with pytest.raises(UserError, match=rf"dataset\.augment: {__name__}\.{said}"):
        make(augment=[kind]).batch(0)


def test_an_augmentation_is_of_one_of_the_two_kinds():
    with pytest.raises(UserError, match=r"dataset\.augment: each is a Geometric or a Photometric"):
        make(augment=[dict])


def test_loader_processes_change_nothing():
    feed = make(flip=0.5, reverse=0.5)
    for ours, theirs in zip(feed.batches(3, 9, workers=2), feed.batches(3, 9, workers=0), strict=True):
        equal(ours, theirs)
    with dist.pretend(2, 1):
        half = make(flip=0.5)
        for ours, theirs in zip(half.batches(3, 6, workers=2), half.batches(3, 6, workers=0), strict=True):
            equal(ours, theirs)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_it_goes_on_exactly_from_any_step(workers):
    whole = list(make(flip=0.5, reverse=0.5).batches(0, 8, workers=0))
    for start in range(8) if workers == 0 else (1, 4, 7):
        rest = list(make(flip=0.5, reverse=0.5).batches(start, 8, workers=workers))
        assert len(rest) == 8 - start
        for ours, theirs in zip(rest, whole[start:], strict=True):
            equal(ours, theirs)


def test_a_closed_feed_leaves_no_process_and_no_changed_signal(tmp_path, monkeypatch):
    """Also where a loader process is busy with what will not end."""
    batch = Feed.batch

    def endless(self, step):
        if step == 3:
            (tmp_path / "busy").touch()
            time.sleep(120)
        return batch(self, step)

    monkeypatch.setattr(Feed, "batch", endless)
    monkeypatch.setattr(loaders, "LEAVE_S", 0.1)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    handlers = [signal.getsignal(number) for number in NOT_FOR_HELPERS]
    batches = make().batches(0, 9, workers=2)
    next(batches)
    assert len(multiprocessing.active_children()) == 2
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == blocked
    while not (tmp_path / "busy").exists():
        time.sleep(0.01)
    batches.close()
    until = time.monotonic() + 60  # they were killed; on a busy machine it takes a moment to show
    while multiprocessing.active_children() and time.monotonic() < until:
        time.sleep(0.01)
    assert not multiprocessing.active_children()
    assert [signal.getsignal(number) for number in NOT_FOR_HELPERS] == handlers


def test_whole_videos():
    clip = whole_video(Counted()[3], SETTINGS, 2, 5, seed=0)
    assert raw(clip.video)[0, :, 1, 0, 0].tolist() == [2, 3, 4] and clip.names == ("video3",)
    again = whole_video(Counted()[3], SETTINGS, 0, 7, seed=0)
    assert torch.equal(clip.key, again.key)  # windows of a video share its randomness
    assert not torch.equal(clip.key, whole_video(Counted()[3], SETTINGS, 0, 7, seed=1).key)
