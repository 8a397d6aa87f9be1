"""Which slots count, and masks of pixels from soft masks on the grid."""

from __future__ import annotations

import torch

from vocl.interface import Grid
from vocl.ops.masks import majority_masks, slot_masks, stretched_masks, winning_masks
from vocl.ops.selection import Validity

RULE = Validity(level=0.5, min_area=0.2, min_score=0.5, max_border=0.5)
GRID = Grid(4, 5)


def boxes(*corners: tuple[int, int, int, int]) -> torch.Tensor:
    """Masks k n that are 1 from row to row and column to column."""
    out = torch.zeros(len(corners), *GRID)
    for mask, (top, bottom, left, right) in zip(out, corners, strict=True):
        mask[top:bottom, left:right] = 1
    return out.flatten(1)


def test_a_slot_must_be_large_and_near_to_its_parent():
    masks = boxes((0, 2, 0, 2), (0, 1, 0, 3), (0, 4, 0, 5))[None]  # 4, 3 and 20 of 20 patches
    assert RULE.valid(masks, None, None).tolist() == [[True, False, True]]
    scores = torch.tensor([[0.4, 0.9, 0.5]])
    assert RULE.valid(masks, scores, None).tolist() == [[False, False, True]]


def test_the_area_is_that_of_the_parent():
    masks = 0.4 * boxes((0, 2, 0, 5), (0, 2, 0, 5), (2, 4, 0, 5))[None]
    parent = torch.tensor([1, 1, 0])  # the first two share a map, which is above the level
    assert RULE.valid(masks, None, None).tolist() == [[False, False, False]]
    assert RULE.valid(masks, None, parent).tolist() == [[True, True, False]]


def test_a_slot_on_most_of_the_border_is_background():
    inner, frame = boxes((1, 3, 1, 4))[0], boxes((0, 4, 0, 5))[0]
    masks = torch.stack([inner, frame - inner, boxes((0, 4, 0, 1))[0]])[None]
    assert RULE.on_border(masks, None, GRID).tolist() == [[False, True, False]]
    assert RULE.on_border(masks, torch.tensor([0, 1, 1]), GRID).tolist() == [[False, True, True]]


def test_stretched_masks_may_overlap_and_a_constant_one_is_none():
    soft = torch.tensor([[[0.1, 0.2, 0.4]], [[0.0, 0.0, 0.1]], [[0.3, 0.3, 0.3]]])
    found = stretched_masks(soft, (2, 6), 0.3)
    row = [[False, False, True, True, True, True], [False] * 4 + [True] * 2, [False] * 6]
    assert [mask.tolist() for mask in found[:, 0]] == row
    assert torch.equal(found[:, 0], found[:, 1])
    picked = stretched_masks(torch.tensor([[[0.0, 9.0, 0.5, 9.0]]]), (1, 2), 0.9)  # stretched after resizing
    assert picked.tolist() == [[[False, True]]]


def test_masks_that_win_do_not_overlap():
    soft = torch.stack([torch.linspace(0, 1, 20), torch.linspace(0.2, 0, 20), torch.full((20,), 0.9)])
    size = (4, 5)
    found = winning_masks(soft, torch.tensor([True, True, True]), GRID, size, 0.3)
    assert found.sum(0).max() == 1 and not found[2].any()
    assert found[0].flatten().tolist() == [False] * 10 + [True] * 10
    alone = winning_masks(soft, torch.tensor([True, False, True]), GRID, size, 0.3)
    assert alone[0].sum() == 14 and not alone[1].any()
    assert torch.equal(
        slot_masks(soft[:2], GRID, size, True, 0.3).sum(0), torch.ones(size, dtype=torch.int64)
    )


def test_a_patch_is_what_most_of_its_pixels_are():
    masks = torch.zeros(1, 4, 4, dtype=torch.bool)
    masks[0, :2, :2] = masks[0, 0, 2] = masks[0, 2:, 0] = True
    void = torch.zeros_like(masks)
    assert majority_masks(masks, void, Grid(2, 2)).tolist() == [[1, 0, 0, 0]]  # half is not most
    void[0, 1, 2:] = void[0, 2:, 3] = True
    void[0, 0, 3] = True
    assert majority_masks(masks, void, Grid(2, 2)).tolist() == [[1, 1, 0, 0]]
