from __future__ import annotations

from itertools import permutations

import pytest
import torch

from vocl.interface import VOID
from vocl.metrics.contingency import contingency
from vocl.metrics.overlap import (
    MeanBestOverlap,
    MeanIoUVolume,
    best_overlap,
    iou_matrix,
    matched_overlap,
)


def random_maps(num_classes: int, num_slots: int, seed: int):
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randint(0, num_classes, (3, 4, 5), generator=generator)
    truth[torch.rand(truth.shape, generator=generator) < 0.1] = VOID
    return truth, torch.randint(0, num_slots, (3, 4, 5), generator=generator)


def iou_of_masks(truth, labels, label: int, slot: int) -> float:
    counts = truth != VOID
    true, predicted = truth == label, (labels == slot) & counts
    return float((true & predicted).sum() / max(1, (true | predicted).sum()))


@pytest.mark.parametrize(("num_classes", "num_slots"), [(4, 3), (3, 5), (5, 4), (2, 1)])
@pytest.mark.parametrize("seed", [0, 1])
def test_equal_what_masks_give_by_brute_force(num_classes, num_slots, seed):
    truth, labels = random_maps(num_classes, num_slots, seed)
    table = contingency(truth, labels, num_classes, num_slots).sum(0)
    iou = [[iou_of_masks(truth, labels, c, k) for k in range(num_slots)] for c in range(num_classes)]
    torch.testing.assert_close(iou_matrix(table), torch.tensor(iou, dtype=torch.float64), rtol=0, atol=1e-7)

    objects = iou[1:]
    assert float(best_overlap(table)) == pytest.approx(sum(map(max, objects)) / len(objects), abs=1e-7)

    slots = [*range(num_slots), *[None] * len(objects)]  # None: the object is left over
    totals = [
        sum(objects[i][k] for i, k in enumerate(choice) if k is not None)
        for choice in permutations(slots, len(objects))
    ]
    assert float(matched_overlap(table)) == pytest.approx(max(totals) / len(objects), abs=1e-7)


def test_one_to_one_is_at_most_the_best_and_that_at_most_one():
    generator = torch.Generator().manual_seed(2)
    tables = torch.randint(0, 50, (2, 30, 6, 4), generator=generator)
    matched, best = matched_overlap(tables), best_overlap(tables)
    assert matched.shape == best.shape == (2, 30)
    assert (matched >= 0).all() and (matched <= best + 1e-12).all() and (best <= 1).all()
    assert torch.equal(matched[1, 7], matched_overlap(tables[1, 7]))


def test_neither_names_of_objects_nor_of_slots_matter():
    generator = torch.Generator().manual_seed(3)
    table = torch.randint(0, 50, (5, 4), generator=generator)
    shuffled = table[[0, 3, 1, 4, 2]][:, [2, 0, 3, 1]]
    for score in (best_overlap, matched_overlap):
        assert float(score(shuffled)) == pytest.approx(float(score(table)), abs=1e-14)


@pytest.mark.parametrize(
    ("rows", "best", "matched"),
    [
        ([[0, 0], [5, 0]], 1, 1),  # one object, one slot
        ([[5, 0], [5, 0]], 0.5, 0.5),  # the slot leaks into the background
        ([[0, 0], [6, 2]], 0.75, 0.75),  # one object split: its best piece
        ([[0, 0], [6, 0], [2, 0]], (0.75 + 0.25) / 2, 0.75 / 2),  # one slot over two objects
        ([[9, 0], [0, 4], [0, 0]], 1, 1),  # an object that is nowhere does not count
        ([[0, 9], [4, 0]], 1, 1),  # row 0 is no object
    ],
)
def test_small_cases(rows, best, matched):
    table = torch.tensor(rows)
    assert float(best_overlap(table)) == pytest.approx(best, abs=1e-15)
    assert float(matched_overlap(table)) == pytest.approx(matched, abs=1e-15)


@pytest.mark.parametrize("rows", [[[9, 3], [0, 0]], [[0, 0], [0, 0]], [[4, 5]]])
def test_without_an_object_undefined(rows):
    table = torch.tensor(rows)
    assert best_overlap(table).isnan() and matched_overlap(table).isnan()


def test_frames_without_an_object_do_not_count():
    full, bare = [[3, 1], [0, 4]], [[8, 0], [0, 0]]
    table = torch.tensor([full, bare, full])
    per_frame = 4 / 5
    assert MeanBestOverlap(level="image").score(table) == (pytest.approx(2 * per_frame), 2)
    assert MeanBestOverlap(level="video").score(table) == (pytest.approx(8 / 10), 1)
    assert MeanIoUVolume().score(table) == (pytest.approx(8 / 10), 1)
    assert MeanIoUVolume().score(table[1:2]) == (0, 0)


def test_a_video_of_one_frame_scores_the_same_at_both_levels():
    table = torch.randint(0, 50, (1, 5, 4), generator=torch.Generator().manual_seed(4))
    assert MeanBestOverlap(level="image").score(table) == MeanBestOverlap(level="video").score(table)
