"""J and F against their definitions, and against the official code on real masks."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import distance_transform_edt

from vocl.data.sources.files import read_mask
from vocl.metrics.contour import boundaries, contour_accuracy, dilated, radius, region_similarity

SHARED = Path(os.environ.get("VOCL_SHARED") or Path(__file__).resolve().parents[3] / "shared") / "data"
KNOWN = {  # J, F by the official code, of OSVOS (one foreground) against the truth of DAVIS-2016
    "blackswan": (0.9431, 0.9746),
    "bmx-trees": (0.5430, 0.7671),
    "car-shadow": (0.9237, 0.9131),
    "dog": (0.7187, 0.7003),
    "drift-chicane": (0.7754, 0.8329),
    "horsejump-high": (0.7740, 0.8740),
    "kite-surf": (0.6017, 0.6672),
    "libby": (0.6198, 0.7474),
    "motocross-jump": (0.8162, 0.6264),
    "scooter-black": (0.6739, 0.7156),
}


@pytest.mark.parametrize("sequence", KNOWN)
def test_known_values(sequence):
    truth = sorted((SHARED / "davis2016" / "Annotations" / "480p" / sequence).glob("*.png"))
    found = SHARED / "davis2017_results" / "osvos" / sequence
    if not truth or not found.is_dir():
        pytest.skip(f"no masks of {sequence} in $VOCL_SHARED/data")
    scores = []
    for path in truth:
        g = read_mask(path, binary=True)[None] > 0
        p = np.array(Image.open(found / path.name))[None] > 0
        scores.append((region_similarity(p, g).item(), contour_accuracy(p, g).item()))
    assert np.mean(scores, axis=0) == pytest.approx(KNOWN[sequence], abs=5.1e-5)


def blobs(seed: int, count: int, size: tuple[int, int] = (40, 57)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.ogrid[: size[0], : size[1]]
    centres = rng.uniform((0, 0), size, size=(count, 3, 2))
    radii = rng.uniform(2, 9, size=(count, 3))
    disks = [
        [(y - c[0]) ** 2 + (x - c[1]) ** 2 < r**2 for c, r in zip(cs, rs, strict=True)]
        for cs, rs in zip(centres, radii, strict=True)
    ]
    return np.array(disks).any(1)


def test_a_contour_looks_right_down_and_to_the_right_below():
    mask = np.zeros((6, 7), bool)
    mask[2:4, 3:5] = True
    marked = {(y, x) for y, x in np.argwhere(boundaries(mask))}
    expected = {
        (y, x)
        for y in range(6)
        for x in range(7)
        for dy, dx in ((0, 1), (1, 0), (1, 1))
        if y + dy < 6 and x + dx < 7 and mask[y, x] != mask[y + dy, x + dx]
    }
    assert marked == expected and (2, 3) not in marked - expected
    assert not boundaries(np.ones((5, 5), bool)).any()


@pytest.mark.parametrize("reach", [1, 2, 3, 8, 30])
def test_dilation_is_everything_within_reach(reach):
    for seed, size in ((0, (40, 57)), (1, (5, 90)), (2, (1, 3))):
        contour = boundaries(blobs(seed, 1, size)[0])
        contour[0, -1] = True
        assert (dilated(contour, reach) == (distance_transform_edt(~contour) <= reach)).all()
    assert not dilated(np.zeros((9, 9), bool), reach).any()


def test_every_pair_is_scored_as_if_alone():
    found, truth = blobs(0, 4), blobs(1, 3)
    void = blobs(2, 1)[0]
    j, f = (score(found, truth, void) for score in (region_similarity, contour_accuracy))
    reach = radius(truth.shape[1:])
    for i, k in np.ndindex(4, 3):
        p, g = found[i] & ~void, truth[k] & ~void
        assert j[i, k] == (p & g).sum() / (p | g).sum()
        near = [distance_transform_edt(~boundaries(m)) <= reach for m in (p, g)]
        precision = near[1][boundaries(p)].mean()
        recall = near[0][boundaries(g)].mean()
        assert f[i, k] == pytest.approx(2 * precision * recall / max(precision + recall, 1e-9))
    assert (f > 0).sum() > 6


def test_empty_masks():
    nothing, something = np.zeros((1, 20, 20), bool), np.zeros((1, 20, 20), bool)
    something[0, 5:9, 5:9] = True
    for score in (region_similarity, contour_accuracy):
        assert score(nothing, nothing).item() == score(something, something).item() == 1
        assert score(something, nothing).item() == score(nothing, something).item() == 0
        assert score(something, nothing, void=something[0]).item() == 1  # nothing is left of either
        assert score(np.zeros((0, 20, 20), bool), something).shape == (0, 1)


def test_masks_too_far_apart_share_no_contour():
    left, right = np.zeros((2, 1, 60, 60), bool)
    left[0, 10:20, 5:15] = right[0, 10:20, 40:50] = True
    assert contour_accuracy(left, right).item() == 0


@pytest.mark.parametrize(("size", "expected"), [((480, 854), 8), ((224, 224), 3), ((128, 128), 2)])
def test_the_tolerance_is_a_share_of_the_diagonal(size, expected):
    assert radius(size) == expected
