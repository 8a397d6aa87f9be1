"""Augmentations: what they draw, and what they leave alone."""

from __future__ import annotations

import math

import pytest
import torch

from vocl.data.augment.colour import ColorJitter, GaussianBlur, Grayscale
from vocl.data.augment.crop import RandomResizedCrop
from vocl.errors import UserError
from vocl.ops.random import generator

FRAMES = torch.rand(3, 3, 20, 30, generator=torch.Generator().manual_seed(0))
JITTER = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}
PHOTOMETRIC = {
    "jitter": lambda p: ColorJitter(**JITTER, p=p),
    "grayscale": lambda p: Grayscale(p=p),
    "blur": lambda p: GaussianBlur(kernel_px=5, sigma=[0.1, 2.0], p=p),
}


@pytest.mark.parametrize("name", PHOTOMETRIC)
def test_a_photometric_change_is_drawn_once_for_all_frames(name):
    augment, before = PHOTOMETRIC[name](1.0), FRAMES.clone()
    still = FRAMES[:1].expand(4, -1, -1, -1)
    out = augment(still, generator(1))
    assert torch.equal(out, out[:1].expand_as(out)) and not torch.equal(out, still)
    assert torch.equal(out, augment(still, generator(1)))
    assert out.min() >= 0 and out.max() <= 1 and out.shape == still.shape
    assert torch.equal(FRAMES, before)
    assert torch.equal(PHOTOMETRIC[name](0.0)(FRAMES, generator(1)), FRAMES)
    changed = sum(not torch.equal(PHOTOMETRIC[name](0.3)(FRAMES, generator(i)), FRAMES) for i in range(200))
    assert 35 < changed < 85


def test_grayscale_is_luma():
    out = Grayscale(p=1.0)(FRAMES, generator(0))
    luma = 0.299 * FRAMES[:, 0] + 0.587 * FRAMES[:, 1] + 0.114 * FRAMES[:, 2]
    for channel in range(3):
        torch.testing.assert_close(out[:, channel], luma, rtol=0, atol=1e-3)


def test_jitter_of_brightness_alone_is_a_factor_within_its_range():
    augment = ColorJitter(brightness=0.4, contrast=0.0, saturation=0.0, hue=0.0, p=1.0)
    factors = [float(augment(FRAMES * 0.5, generator(i)).sum() / (FRAMES * 0.5).sum()) for i in range(100)]
    assert 0.6 <= min(factors) < 0.7 and 1.3 < max(factors) <= 1.4 + 1e-5


def test_random_resized_crops():
    augment = RandomResizedCrop(scale=[0.25, 0.5], aspect=[0.75, 4 / 3])
    boxes = [augment.window((60, 80), generator(i)) for i in range(300)]
    for top, left, height, width in boxes:
        assert top >= 0 and top + height <= 60 and left >= 0 and left + width <= 80
        assert 0.24 < height * width / 4800 < 0.52
        assert 0.7 < width / height < 1.4
    assert len(set(boxes)) > 250
    spread = [math.log(width / height) for *_, height, width in boxes]
    assert abs(sum(spread) / len(spread)) < 0.04  # wide and tall alike
    assert RandomResizedCrop(scale=[1.0, 1.0], aspect=[9.0, 9.0]).window((60, 80), generator(0)) == (
        0,
        0,
        60,
        80,
    )


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: RandomResizedCrop(scale=[0.5, 0.2], aspect=[1.0, 1.0]), "scale="),
        (lambda: RandomResizedCrop(scale=[0.0, 0.2], aspect=[1.0, 1.0]), "above 0"),
        (lambda: GaussianBlur(kernel_px=4, sigma=[0.1, 2.0], p=1.0), "odd"),
        (lambda: GaussianBlur(kernel_px=5, sigma=[0.1], p=1.0), "sigma="),
    ],
)
def test_bad_ranges_are_refused(make, said):
    with pytest.raises(UserError, match=said):
        make()
