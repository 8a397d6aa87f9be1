from __future__ import annotations

import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from vocl.interface import VOID
from vocl.metrics.ari import AdjustedRandIndex, adjusted_rand_index
from vocl.metrics.contingency import contingency


def noisy_maps(shape: tuple[int, int, int], num_labels: int, noise: float):
    generator = torch.Generator().manual_seed(1)
    truth = torch.randint(0, num_labels, shape, generator=generator)
    wrong = torch.rand(shape, generator=generator) < noise
    labels = torch.where(wrong, torch.randint(0, num_labels, shape, generator=generator), truth)
    return truth, labels


def video_ari(truth, labels, num_classes: int = 12, num_slots: int = 12) -> float:
    return float(adjusted_rand_index(contingency(truth, labels, num_classes, num_slots).sum(0)))


def score(table, *, level: str = "image", foreground: bool = True, empty: str = "one") -> tuple[float, int]:
    return AdjustedRandIndex(level=level, foreground=foreground, empty=empty).score(table)


@pytest.mark.parametrize("num_points", [2, 7, 1000, 100_000, 1_000_000, 4_000_000])
@pytest.mark.parametrize("noise", [0.1, 1.0])
def test_equals_sklearn(num_points, noise):
    truth, labels = noisy_maps((1, 1, num_points), 4, noise)
    expected = adjusted_rand_score(truth.flatten().numpy(), labels.flatten().numpy())
    assert video_ari(truth, labels) == pytest.approx(expected, abs=1e-12)


def test_pair_counts_of_a_whole_clip_do_not_overflow():
    truth, labels = noisy_maps((24, 336, 336), 11, 0.1)
    # of equal sizes and independent noise the index is the squared share of kept labels: 0.81
    assert video_ari(truth, labels, 11, 11) == pytest.approx(0.81, abs=0.002)
    small, noisy = truth[:1, :100], labels[:1, :100]
    expected = adjusted_rand_score(small.flatten().numpy(), noisy.flatten().numpy())
    assert video_ari(small, noisy, 11, 11) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[5, 0]], 1),  # one object, one slot
        ([[7, 4]], 0),  # one object split, whatever the split
        ([[112895, 1]], 0),
        ([[999983, 1000003]], 0),
        ([[1, 0], [1, 0]], 0),  # two points in one slot
        ([[1, 0], [0, 1]], 1),  # two points apart
        ([[9, 0], [6, 0]], 0),  # all in one slot
        ([[99991, 0], [100003, 0]], 0),
        ([[0, 0], [0, 0]], 1),  # nothing
        ([[3, 0], [0, 0]], 1),
        ([[8, 0], [0, 5]], 1),
        ([[0, 8], [5, 0]], 1),
    ],
)
def test_degenerate_partitions_are_exact(rows, expected):
    assert float(adjusted_rand_index(torch.tensor(rows))) == expected


def test_neither_names_of_objects_nor_of_slots_matter():
    table = contingency(*noisy_maps((3, 20, 20), 6, 0.5), 6, 6)
    shuffled = table[:, [3, 0, 5, 1, 2, 4]][:, :, [5, 4, 0, 1, 3, 2]]
    torch.testing.assert_close(adjusted_rand_index(shuffled), adjusted_rand_index(table), rtol=0, atol=1e-14)
    # one dimension of tables at a time or several: the same
    stacked = adjusted_rand_index(torch.stack([table, shuffled]))
    assert torch.equal(stacked[0], adjusted_rand_index(table))


def test_unused_classes_and_slots_do_not_matter():
    maps = noisy_maps((2, 20, 20), 5, 0.3)
    assert video_ari(*maps, 5, 5) == pytest.approx(video_ari(*maps, 40, 30), abs=1e-14)


@pytest.mark.parametrize("foreground", [False, True])
def test_a_video_of_one_frame_scores_the_same_at_both_levels(foreground):
    table = contingency(*noisy_maps((1, 20, 20), 5, 0.4), 5, 5)
    image = score(table, level="image", foreground=foreground)
    assert image == score(table, level="video", foreground=foreground)
    assert image[1] == 1


def test_exchanged_slots_cost_at_video_level_only():
    truth, _ = noisy_maps((8, 20, 20), 3, 0)
    labels = truth.clone()
    labels[4:] = torch.tensor([0, 2, 1])[truth[4:]]
    table = contingency(truth, labels, 3, 3)
    assert score(table) == (8.0, 8)
    total, count = score(table, level="video")
    assert count == 1 and total < 0.1


def test_leaking_into_the_background_costs_nothing_in_fg_ari():
    truth, labels = noisy_maps((2, 20, 20), 4, 0.3)
    leaking = torch.where(truth == 0, 3, labels)
    before, after = contingency(truth, labels, 4, 4), contingency(truth, leaking, 4, 4)
    assert score(before) == score(after)
    assert score(before, foreground=False) != score(after, foreground=False)


def test_frames_without_foreground_count_as_one_or_not_at_all():
    truth, _ = noisy_maps((4, 20, 20), 4, 0)
    truth[1:] = 0
    useless = noisy_maps((4, 20, 20), 4, 1)[1]
    table = contingency(truth, useless, 4, 4)
    alone = score(table[:1])[0]
    assert score(table, empty="skip") == (alone, 1)
    assert score(table, empty="one") == (pytest.approx(alone + 3, abs=1e-12), 4)
    # the background against several slots is an ordinary sample of the full index, worth 0
    assert score(table[1:], foreground=False) == (0, 3)
    for level in ("image", "video"):
        assert score(table[1:], level=level, empty="skip") == (0, 0)
    assert score(table[1:], level="video", empty="one") == (1, 1)


@pytest.mark.parametrize("empty", ["one", "skip"])
@pytest.mark.parametrize("foreground", [False, True])
def test_a_frame_that_is_all_void_never_counts(empty, foreground):
    truth, labels = noisy_maps((2, 20, 20), 4, 0.3)
    alone = score(contingency(truth[:1], labels[:1], 4, 4), foreground=foreground, empty=empty)
    truth[1] = VOID
    table = contingency(truth, labels, 4, 4)
    assert score(table, foreground=foreground, empty=empty) == alone
