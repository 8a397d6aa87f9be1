"""F of all pairs of proposals and objects of a frame: each contour dilated once, against each pair by itself.

Run from the repository root: `python benchmarks/boundary.py`. One frame of 480 x 854 with 20 proposals and
3 objects, 60 pairs. The baseline is the rule of DAVIS written down for one pair (contours, those of each side
within the radius of the other's by a Euclidean distance transform, precision and recall) and called for each,
as evaluators are. `own_pairs`: the time of this project's own code called for each pair, as a share of
the baseline; what remains between that and `ratio` is what sharing the dilations gives.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from scipy.ndimage import distance_transform_edt

from vocl.metrics.contour import boundaries, contour_accuracy, radius

SIZE, PROPOSALS, OBJECTS = (480, 854), 20, 3


def frame() -> tuple[np.ndarray, np.ndarray]:
    """Masks k h w and n h w: blobs whose contours are as long as those of objects in a video."""
    chosen = np.random.default_rng(0)
    rows, columns = np.ogrid[: SIZE[0], : SIZE[1]]
    masks = []
    for _ in range(PROPOSALS + OBJECTS):
        y, x = chosen.uniform(80, 400), chosen.uniform(100, 750)
        angle = np.arctan2(rows - y, columns - x)
        reach = chosen.uniform(30, 90) * (1 + 0.25 * np.sin(chosen.integers(3, 9) * angle))
        masks.append(np.hypot(rows - y, columns - x) < reach)
    found, truth = np.stack(masks[:PROPOSALS]), np.stack(masks[PROPOSALS:])
    found[:OBJECTS] = np.roll(truth, 5, axis=2)  # some are near to an object
    return found, truth


def by_pair(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The rule, pair by pair."""
    return np.array([[f_of(p, g) for g in truth] for p in found])


def f_of(found: np.ndarray, truth: np.ndarray) -> float:
    """F of one pair."""
    one, other = boundaries(found), boundaries(truth)
    reach = radius(found.shape)
    near_one, near_other = (distance_transform_edt(~contour) <= reach for contour in (one, other))
    precision, recall = (one & near_other).sum() / one.sum(), (other & near_one).sum() / other.sum()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def own_by_pair(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """This project's code, pair by pair."""
    return np.array([[contour_accuracy(p[None], g[None])[0, 0] for g in truth] for p in found])


def seconds(run: Callable, masks: tuple[np.ndarray, np.ndarray]) -> float:
    start = time.perf_counter()
    run(*masks)
    return time.perf_counter() - start


def main() -> None:
    masks = frame()
    ours, theirs = contour_accuracy(*masks), by_pair(*masks)
    assert np.abs(ours - theirs).max() < 1e-12
    print(f"pairs_that_touch {np.count_nonzero(ours)} of {ours.size}")
    times: dict[Callable, list[float]] = {contour_accuracy: [], by_pair: [], own_by_pair: []}
    for _ in range(3):
        for run, found in times.items():
            found += [seconds(run, masks) for _ in range(5 if run is contour_accuracy else 1)]
    ours_s, pair_s, own_s = (min(found) for found in times.values())
    print(f"seconds once {ours_s:.4f} by_pair {pair_s:.4f}")
    print(f"own_pairs {own_s / pair_s:.4f}")
    assert ours_s <= 0.10 * pair_s
    print(f"ratio={ours_s / pair_s:.4f}")


if __name__ == "__main__":
    main()
