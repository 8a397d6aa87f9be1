"""Run-length codes of masks from other people's annotations: checked, and all in one form.

pycocotools decodes a code whose runs do not fill its picture into memory that is not its own, so no code
reaches it before its runs are counted here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vocl.data.truth import RLE
from vocl.errors import UserError, brief

_LONGEST = 6  # characters of a run; more do not fit 30 bits
_OVER = 2**31


def checked(code: Any, size: tuple[int, int], place: str) -> RLE | None:
    """One mask of (height, width) `size` as a compressed code; None for None and for an empty mask.

    `code`: a mapping of size and counts (text, or a list of runs), or a list of polygons, each x, y, x, y
    and so on. UserError that begins with `place` for anything else.
    """
    if code is None:
        return None
    if isinstance(code, list):
        return _filled(code, size, place)
    if not isinstance(code, dict) or "counts" not in code:
        raise UserError(f"{place}: is no run-length code: {brief(code)}")
    found = code.get("size")
    if not isinstance(found, list | tuple) or list(found) != list(size):
        raise UserError(f"{place}: has size {brief(found)}, its video [height, width] {list(size)}")
    runs = _runs(code["counts"], place)
    if runs.sum() != size[0] * size[1]:
        raise UserError(f"{place}: has runs of {runs.sum()} pixels for a picture of {size[0] * size[1]}")
    return _compressed(np.trim_zeros(runs, "b"), size) if runs[1::2].any() else None


def _runs(counts: Any, place: str) -> np.ndarray:
    """Lengths of runs of 0, 1, 0, ...: none is negative or over 31 bits."""
    if isinstance(counts, bytes | str):
        runs = _unpacked(counts, place)
    elif isinstance(counts, list) and all(type(n) is int and abs(n) < _OVER for n in counts):
        runs = np.array(counts, np.int64)
    else:
        raise UserError(f"{place}: its counts are neither text nor a list of integers: {brief(counts)}")
    if runs.size and (runs.min() < 0 or runs.max() >= _OVER):
        raise UserError(f"{place}: has a run of {runs.min() if runs.min() < 0 else runs.max()} pixels")
    return runs


def _unpacked(counts: str | bytes, place: str) -> np.ndarray:
    """Runs from COCO's text: digits of 5 bits with a sign; from the fourth on, changes since two before."""
    text = counts.encode("utf-8", "replace") if isinstance(counts, str) else counts
    digits = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(digits & 0x20 == 0)
    if digits.size and (
        digits.min() < 0 or digits.max() > 63 or not ends.size or ends[-1] != len(digits) - 1
    ):
        raise UserError(f"{place}: is no run-length code: {brief(text[:40])}")
    starts = np.concatenate([[0], ends[:-1] + 1]).astype(np.int64)[: len(ends)]
    sizes = ends - starts + 1
    if sizes.max(initial=0) > _LONGEST + 1:
        raise UserError(f"{place}: has a run that no picture is large enough for")
    runs = np.zeros(len(ends), np.int64)
    for number in range(int(sizes.max(initial=0))):
        there = sizes > number
        runs[there] |= (digits[starts[there] + number] & 0x1F) << 5 * number
    negative = digits[ends] & 0x10 != 0
    runs[negative] -= 1 << 5 * sizes[negative]
    runs[1::2], runs[2::2] = np.cumsum(runs[1::2]), np.cumsum(runs[2::2])
    return runs


def _compressed(runs: np.ndarray, size: Sequence[int]) -> RLE:
    from pycocotools import mask as coco

    code = coco.frPyObjects({"size": list(size), "counts": runs.tolist()}, size[0], size[1])
    return RLE(size=list(size), counts=code["counts"])


def _filled(polygons: list[Any], size: tuple[int, int], place: str) -> RLE | None:
    """What a list of polygons covers, as pycocotools fills them."""
    from pycocotools import mask as coco

    for polygon in polygons:
        fine = isinstance(polygon, list) and len(polygon) >= 6 and len(polygon) % 2 == 0
        if not fine or not all(type(n) in (int, float) and abs(n) < 2**15 for n in polygon):
            raise UserError(f"{place}: is no polygon: {brief(polygon)}")
    if not polygons:
        return None
    code = coco.merge(coco.frPyObjects(polygons, size[0], size[1]))
    return checked({"size": list(size), "counts": code["counts"]}, size, place)
