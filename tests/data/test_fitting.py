"""Frames that a GPU is sent as they are stored become the clips that the host would have made of them."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from fake_gpu import GPU, fake_gpu

from vocl.config.sections import Dataset
from vocl.data import fitting
from vocl.data.ahead import brought
from vocl.data.augment import Geometric, Photometric
from vocl.data.augment.colour import ColorJitter, GaussianBlur, Grayscale
from vocl.data.feed import Feed
from vocl.data.fitting import Unfitted
from vocl.data.loaders import tensors
from vocl.errors import UserError
from vocl.interface import Clip

SETTINGS = Dataset(
    name="noise",
    source=None,
    size_px=[21, 28],
    fit="stretch",
    normalise="imagenet",
    clip_frames=3,
    clip_starts="any",
    flip=0.5,
    reverse=0.5,
    sampling=None,
    augment=[],
    first_batches=None,
    views=0,
)
SIZES = ((16, 24), (24, 16), (16, 24), (16, 24), (300, 200))  # the last has more bytes than the model's input


class Noise:
    """Videos of noise, of several sizes."""

    def __init__(self, sizes=SIZES):
        self.sizes = sizes

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, index):
        return OfNoise(index, self.sizes[index])

    def truth(self, name):
        return None


class OfNoise:
    def __init__(self, index, size):
        self.name, self.length, self.size, self.index = f"video{index}", 6, size, index

    def frames(self, indices):
        every = np.random.default_rng(self.index).integers(0, 256, (self.length, *self.size, 3), np.uint8)
        return every[list(indices)]


class Window(Geometric):
    def window(self, size, generator):
        top = int(torch.randint(4, (), generator=generator))
        return top, 1, size[0] - 6, size[1] - 5


class OnTheHost(Photometric):
    """It draws an image, and does not look where the frames are."""

    def __call__(self, frames, generator):
        return frames * torch.rand(frames.shape[-2:], generator=generator)


def jitter():
    return ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, p=0.8)


def blur():
    return GaussianBlur(kernel_px=3, sigma=[0.1, 2.0], p=0.5)


def grey():
    return Grayscale(p=0.3)


def make(source=None, batch=10, **changes):
    return Feed(source or Noise(), replace(SETTINGS, **changes), 0, batch, 3)


def same(ours: Clip, theirs: Clip) -> None:
    assert ours.names == theirs.names
    for one, other in zip(tensors(ours), tensors(theirs), strict=True):
        assert one.dtype == other.dtype and torch.equal(one, other)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"fit": "crop"},
        {"flip": 0.0},
        {"augment": [Window], "views": 2},
        {"augment": [jitter, grey, blur], "views": 1},
        {"fit": "crop", "augment": [blur, Window, jitter]},
    ],
    ids=["stretched", "cut", "never mirrored", "a window and views", "colours", "colours of a window"],
)
def test_equal_to_the_bit(changes, monkeypatch):
    monkeypatch.setattr(fitting, "PART_BYTES", 2 * 3 * 16 * 24 * 3)  # two clips
    host, device = make(**changes), make(**changes)
    for step in (0, 1, 4):
        sent = device.unfitted(step, stored=True)
        assert sent.clip.video is None
        same(device.fitting(sent), host.batch(step))


def test_a_frame_is_sent_in_the_form_that_has_fewer_bytes():
    sent = make().unfitted(0, stored=True)
    kinds = {(part.dtype, tuple(part.shape[2:])) for part in sent.parts}
    small = {(torch.uint8, (*size, 3)) for size in SIZES[:4]}
    assert kinds == {*small, (torch.float32, (3, 21, 28))}
    assert sum(len(part) for part in sent.parts) == 10
    (whole,) = make(Noise([(16, 24)])).unfitted(0, stored=True).parts
    assert whole.shape == (10, 3, 16, 24, 3)


def test_a_gpu_that_fits_frames_waits_for_nothing():
    feed = make(augment=[], views=1)
    sent = feed.unfitted(0, stored=True)
    with fake_gpu() as met:
        there = Unfitted(
            sent.clip.mapped(lambda tensor: torch.empty_like(tensor, device=GPU)),
            tuple(torch.empty_like(part, device=GPU) for part in sent.parts),
            sent.positions,
        )
        clip = feed.fitting(there)
        assert clip.video.device == clip.views[0].device == GPU
        assert clip.video.shape == (10, 3, 3, 21, 28) and clip.video.dtype == torch.float32
        assert not met


def test_augmentations_that_know_the_host_alone_stay_there():
    assert make(augment=[jitter, grey, blur, Window]).fitting.anywhere
    assert not make(augment=[jitter, OnTheHost]).fitting.anywhere


def test_all_of_a_batch_is_pinned(monkeypatch):
    sent, seen = make().unfitted(0, stored=True), []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: seen.append(tensor) or tensor)
    assert isinstance(sent.pin_memory(), Unfitted)
    assert {id(tensor) for tensor in seen} == {id(tensor) for tensor in tensors(sent)}
    assert len(seen) == len(sent.parts) + 4


class FakeStream:
    def __init__(self, name, told):
        self.name, self.told = name, told

    def wait_stream(self, other):
        self.told.append(f"{self.name} waits for {other.name}")


@pytest.fixture
def told(monkeypatch):
    """What happens on the streams of a GPU that is not there."""
    told: list[str] = []

    @contextmanager
    def within(stream):
        told.append(f"on {stream.name}")
        yield
        told.append("back")

    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: FakeStream("main", told))
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: FakeStream("side", told))
    monkeypatch.setattr(torch.cuda, "stream", within)
    return told


def test_the_next_batch_comes_beside_the_step(told):
    def bring(number):
        told.append(f"bring {number}")
        return Clip(video=None, valid=torch.ones(1, 1), key=torch.tensor([number]), names=("a",))

    clips = brought(iter(range(3)), bring, torch.device("cuda"))
    for number in range(3):
        assert next(clips).key.tolist() == [number]
        told.append(f"step {number}")
    assert next(clips, None) is None
    assert told == [
        *("on side", "bring 0", "back", "main waits for side", "on side", "bring 1", "back", "step 0"),
        *("main waits for side", "on side", "bring 2", "back", "step 1"),
        *("main waits for side", "on side", "step 2"),
    ]


def test_what_is_raised_for_a_batch_waits_for_its_step(told):
    def bring(number):
        if number == 1:
            raise UserError("frame 7 does not decode")
        return Clip(video=None, valid=torch.ones(1, 1), key=torch.tensor([number]), names=("a",))

    clips = brought(iter(range(3)), bring, torch.device("cuda"))
    assert next(clips).key.tolist() == [0]
    with pytest.raises(UserError, match="frame 7"):
        next(clips)


def test_the_host_makes_one_batch_after_the_other():
    begun = []
    clips = brought(iter(range(3)), lambda number: begun.append(number) or number, torch.device("cpu"))
    for number in range(3):
        assert next(clips) == number and begun == list(range(number + 1))
