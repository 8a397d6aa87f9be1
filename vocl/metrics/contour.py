"""Region similarity J and contour accuracy F of masks, by the rules of the DAVIS benchmark.

Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation", CVPR
2016, sec. 3, as the official code counts (davisvideochallenge/davis2017-evaluation). Letters: k found
masks, n true masks, h w pixels. NumPy on the host: a contour is some thousand points of a frame.
"""

from __future__ import annotations

import math

import numpy as np

TOLERANCE = 0.008  # of the diagonal of a frame: how far apart contours may lie


def region_similarity(found: np.ndarray, truth: np.ndarray, void: np.ndarray | None = None) -> np.ndarray:
    """J = intersection over union of every pair: `found` k h w, `truth` n h w (bool) -> k n float64.

    Pixels of `void` (h w) do not count. 1 where both masks are empty.
    """
    found, truth = _without(found, void), _without(truth, void)
    shared = np.array([[np.count_nonzero(p & g) for g in truth] for p in found], np.float64)
    shared = shared.reshape(len(found), len(truth))
    areas = [np.array([np.count_nonzero(mask) for mask in masks], np.float64) for masks in (found, truth)]
    union = areas[0][:, None] + areas[1] - shared
    return np.where(union > 0, shared / np.maximum(union, 1), 1.0)


def contour_accuracy(
    found: np.ndarray, truth: np.ndarray, void: np.ndarray | None = None, tolerance: float = TOLERANCE
) -> np.ndarray:
    """F of every pair: `found` k h w, `truth` n h w (bool) -> k n float64.

    F is the harmonic mean of the share of the found contour that lies within `radius` of the true
    one, and the other way round. `void` (h w) is cut out of the masks before their contours are
    drawn. 1 where neither has a contour, 0 where one alone has. Each contour is dilated once,
    whatever the number of pairs.
    """
    reach = radius(truth.shape[-2:], tolerance)
    contours = [boundaries(_without(masks, void)) for masks in (found, truth)]
    points = [[np.flatnonzero(contour) for contour in side] for side in contours]
    near = [[dilated(contour, reach).ravel() for contour in side] for side in contours]
    scores = np.empty((len(found), len(truth)))
    for i, j in np.ndindex(scores.shape):
        scores[i, j] = _f(points[0][i], points[1][j], near[0][i], near[1][j])
    return scores


def _f(found: np.ndarray, truth: np.ndarray, near_found: np.ndarray, near_truth: np.ndarray) -> float:
    """F from the indices of contour points, and the dilated contours."""
    if len(found) == 0 or len(truth) == 0:
        return float(len(found) == len(truth))
    precision = np.count_nonzero(near_truth[found]) / len(found)
    recall = np.count_nonzero(near_found[truth]) / len(truth)
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


def radius(size: tuple[int, ...], tolerance: float = TOLERANCE) -> int:
    """How many pixels apart contours may lie in a frame of `size`: a share of its diagonal, rounded up."""
    return math.ceil(tolerance * math.hypot(*size))


def boundaries(masks: np.ndarray) -> np.ndarray:
    """Contours one pixel wide of `masks` (... h w bool): pixels that differ from the one to the right,
    below, or below to the right. The last row looks to the right alone, the last column down."""
    out = np.zeros_like(masks)
    out[..., :, :-1] = masks[..., :, :-1] ^ masks[..., :, 1:]
    out[..., :-1, :] |= masks[..., :-1, :] ^ masks[..., 1:, :]
    out[..., :-1, :-1] |= masks[..., :-1, :-1] ^ masks[..., 1:, 1:]
    return out


def dilated(contour: np.ndarray, reach: int) -> np.ndarray:
    """Pixels of h w (bool) within `reach` of a set one, by Euclidean distance.

    A disk is a stack of rows, its half-widths at most `reach` + 1 different ones: the map is widened
    sideways step by step, and each row of the disk laid over the result. Only the part of the frame
    that the contour can reach is looked at.
    """
    out = np.zeros_like(contour)
    rows, columns = np.flatnonzero(contour.any(1)), np.flatnonzero(contour.any(0))
    if len(rows) == 0:
        return out
    box = tuple(slice(max(side[0] - reach, 0), side[-1] + reach + 1) for side in (rows, columns))
    source, target = contour[box], out[box]
    wide, width = source.copy(), 0
    for dy in range(reach, -1, -1):  # the half-width grows towards the middle of the disk
        for step in range(width + 1, math.isqrt(reach**2 - dy**2) + 1):
            wide[:, step:] |= source[:, :-step]
            wide[:, :-step] |= source[:, step:]
            width = step
        kept = max(len(wide) - dy, 0)
        target[dy:] |= wide[:kept]
        target[:kept] |= wide[dy:]
    return out


def _without(masks: np.ndarray, void: np.ndarray | None) -> np.ndarray:
    masks = masks.astype(bool, copy=False)
    return masks if void is None else masks & ~void
