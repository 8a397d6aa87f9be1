"""Run-length codes of others come in one form or are refused; none reaches C code that trusts it."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco

from vocl.data.convert.rle import checked
from vocl.errors import UserError


def masks() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    found = [
        rng.random((rng.integers(1, 40), rng.integers(1, 40))) < p
        for p in (0.01, 0.3, 0.9)
        for _ in range(20)
    ]
    blobs = np.zeros((1080, 1920), bool)
    blobs[200:900, 300:1500] = True
    return [*found, blobs, np.ones((3, 5), bool)]


def decoded(code) -> np.ndarray:
    return coco.decode(code).astype(bool)


def as_list(mask: np.ndarray) -> list[int]:
    flat = np.concatenate([[False], mask.ravel(order="F"), [False]])
    edges = np.flatnonzero(np.diff(flat.astype(np.int8))) if mask.any() else np.array([], int)
    return np.diff(np.concatenate([[0], edges, [mask.size]])).tolist()


def test_text_and_lists_mean_the_same_mask():
    for mask in masks():
        text = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
        size = mask.shape
        codes = [text["counts"], text["counts"].decode(), as_list(mask)]
        found = [checked({"size": list(size), "counts": counts}, size, "here") for counts in codes]
        if not mask.any():
            assert found == [None] * 3
            continue
        assert found[0] == found[1] == found[2] == text
        assert np.array_equal(decoded(found[0]), mask)


def test_absent_and_empty_masks_are_none():
    assert checked(None, (4, 5), "here") is None
    assert checked([], (4, 5), "here") is None
    assert checked({"size": [4, 5], "counts": [20]}, (4, 5), "here") is None
    assert checked({"size": [4, 5], "counts": [20, 0]}, (4, 5), "here") is None


def test_polygons_are_filled():
    code = checked([[1, 1, 6, 1, 6, 4, 1, 4], [8.0, 0.0, 9.0, 0.0, 9.0, 2.0]], (8, 10), "here")
    found = decoded(code)
    assert found[2, 3] and not found[6, 6] and found.shape == (8, 10)


@pytest.mark.parametrize(
    "code",
    [
        *(7, "text", {}, {"size": [4, 5]}, {"counts": [20]}, {"size": [5, 4], "counts": [20]}),
        *(
            {"size": [4, 5], "counts": counts}
            for counts in ([19], [21], [10, -5, 15], [True, 19], [1.5, 18.5])
        ),
        *(
            {"size": [4, 5], "counts": counts}
            for counts in ([2**40], [10**30], None, 7, "", "P", "\x00", "é")
        ),
        *({"size": [4, 5], "counts": counts} for counts in ("oooooooo0", "d1d1", b"\xff\xff", "0" * 9)),
        *([[1, 2]], [[1, 2, 3, 4, 5]], [["a"] * 6], [[float("nan")] * 6], [[1e300] * 6], [7]),
        *([None], [[True] * 6], {"size": None, "counts": [20]}, {"size": ["4", "5"], "counts": [20]}),
    ],
)
def test_whatever_is_no_code_is_refused(code):
    with pytest.raises(UserError, match=r"^here: "):
        checked(code, (4, 5), "here")


def test_mutated_text_is_refused_or_fills_its_picture():
    rng = np.random.default_rng(1)
    mask = np.zeros((30, 40), np.uint8)
    mask[5:20, 7:30] = 1
    text = coco.encode(np.asfortranarray(mask))["counts"]
    for _ in range(2000):
        changed = bytearray(text)
        for _ in range(rng.integers(1, 4)):
            changed[rng.integers(len(changed))] = rng.integers(40, 120)
        try:
            code = checked({"size": [30, 40], "counts": bytes(changed)}, (30, 40), "here")
        except UserError:
            continue
        assert code is None or decoded(code).shape == (30, 40)
