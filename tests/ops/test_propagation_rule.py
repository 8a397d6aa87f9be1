"""Label propagation on features whose answer is known."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from vocl.interface import Grid
from vocl.ops import propagation
from vocl.ops.propagation import Propagation, Rule, label_map, to_grid

RULE = Rule(
    name="plain",
    previous=2,
    topk=1,
    temperature=0.1,
    ties=False,
    window="circle",
    reach=2.5,
    first_windowed=False,
    before="repeated",
    short_px="native",
    multiple_px=1,
    stride_px=None,
    reduce="bilinear",
    enlarge="truth",
    stretch=False,
    given_first=False,
)
GRID = Grid(4, 6)
LABELS = torch.rand(3, 24, generator=torch.Generator().manual_seed(3))


def features(seed: int, n: int = 24) -> Tensor:
    return torch.randn(n, 16, generator=torch.Generator().manual_seed(seed))


def carried(rule: Rule, *frames: Tensor, labels: Tensor = LABELS, grid: Grid = GRID) -> list[Tensor]:
    video = Propagation(rule, grid, torch.device("cpu"))
    video.begin(frames[0], labels)
    return [video.next(frame) for frame in frames[1:]]


def of(**changes) -> Rule:
    return dataclasses.replace(RULE, **changes)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("before", ["none", "first", "repeated"])
def test_identical_frames_keep_their_labels(ties, before):
    still = features(0)
    for found in carried(of(ties=ties, before=before), *[still] * 6):
        torch.testing.assert_close(found, LABELS)


def test_the_length_of_a_feature_does_not_matter():
    a, b = features(0), features(1)
    torch.testing.assert_close(carried(RULE, a, b)[0], carried(RULE, 7 * a, b / 9)[0])


def test_a_window_limits_the_recent_frames_and_frame_0_only_if_asked():
    first, order = features(0), torch.arange(24).flip(0)
    far = carried(RULE, first, first[order])[0]  # every cell's likeness lies across the frame
    torch.testing.assert_close(far, LABELS[:, order])
    near = carried(of(first_windowed=True), first, first[order])[0]
    assert not torch.isclose(near, LABELS[:, order]).all(0)[[0, 5, 18, 23]].any()
    wide = carried(of(first_windowed=True, reach=100), first, first[order])[0]
    torch.testing.assert_close(wide, far)


def test_the_two_kinds_of_window():
    grid = Grid(7, 7)
    seen = torch.eye(49)  # each cell's label is the cell
    for window, reach, expected in (("circle", 2.0, 9), ("circle", 2.1, 13), ("square", 2.0, 25)):
        rule = of(topk=49, temperature=1e6, first_windowed=True, previous=0, window=window, reach=reach)
        found = carried(rule, features(0, 49), features(1, 49), labels=seen, grid=grid)[0]
        assert (found[:, 24] > 1e-6).sum() == expected


@pytest.mark.parametrize("before", ["none", "first", "repeated"])
def test_frame_0_stands_in_the_context_as_often_as_the_rule_says(before):
    """With every cell chosen and no window, the result is the mean of all labels in the context."""
    rule = of(before=before, topk=10_000, temperature=1e9, reach=100, previous=2)
    frames = [features(i) for i in range(5)]
    found = [LABELS, *carried(rule, *frames)]
    contexts = {
        "none": [[0], [0, 1], [0, 1, 2], [0, 2, 3]],
        "first": [[0, 0], [0, 0, 1], [0, 1, 2], [0, 2, 3]],
        "repeated": [[0, 0, 0], [0, 0, 1], [0, 1, 2], [0, 2, 3]],
    }[before]
    for t, context in enumerate(contexts, start=1):
        mean = torch.stack([found[i].mean(1) for i in context]).mean(0)
        torch.testing.assert_close(found[t], mean[:, None].expand(-1, 24), atol=1e-5, rtol=0)


def test_copies_of_a_cell_use_up_the_places():
    """Frame 0 stands there three times: its best cell alone fills three places, and half of the fourth's."""
    first, second = features(0), features(1)
    similarity = torch.nn.functional.cosine_similarity(second[:, None], first[None], dim=-1) / 0.1
    best = similarity.topk(2, dim=1)
    weights = best.values.exp() * torch.tensor([3.0, 1.0])
    expected = (weights / weights.sum(1, keepdim=True)).unsqueeze(-1) * LABELS.T[best.indices]
    found = carried(of(topk=4, reach=100), first, second)[0]
    torch.testing.assert_close(found, expected.sum(1).T)


def test_cells_that_tie_count_if_the_rule_says_so():
    first = features(0)
    first[1] = first[0]
    labels = torch.eye(24)
    found = carried(of(ties=True, before="none"), first, first, labels=labels)[0]
    assert found[:2, 0].tolist() == [0.5, 0.5]
    assert carried(of(ties=False, before="none"), first, first, labels=labels)[0][:, 0].max() == 1


def test_parts_of_a_frame_give_the_same_as_the_whole(monkeypatch):
    frames = [features(i) for i in range(5)]
    whole = carried(of(topk=5), *frames)
    monkeypatch.setattr(propagation, "CHUNK", 100)
    for ours, theirs in zip(carried(of(topk=5), *frames), whole, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_only_frames_that_are_still_looked_at_are_kept():
    video = Propagation(RULE, GRID, torch.device("cpu"))
    video.begin(features(0), LABELS)
    for i in range(1, 9):
        video.next(features(i))
    assert sorted(video._features) == sorted(video._labels) == [0, 7, 8]


def test_labels_go_down_and_up():
    labels = torch.zeros(2, 8, 12)
    labels[1, :4, :6] = 1
    labels[0] = 1 - labels[1]
    for reduce in ("nearest", "bilinear"):
        small = to_grid(labels, GRID, reduce)
        assert small.shape == (2, 24) and torch.equal(small.sum(0), torch.ones(24))
        assert torch.equal(label_map(small, GRID, (8, 12), (8, 12), False), labels[1].long())
        assert torch.equal(label_map(small, GRID, (4, 6), (8, 12), False), labels[1].long())


def test_a_stretched_channel_may_win_where_it_is_small():
    soft = torch.tensor([[0.9, 0.95, 1.0, 1.0], [0.1, 0.05, 0.0, 0.0]])
    assert label_map(soft, Grid(1, 4), (1, 4), (1, 4), stretch=False).tolist() == [[0, 0, 0, 0]]
    assert label_map(soft, Grid(1, 4), (1, 4), (1, 4), stretch=True).tolist() == [[1, 0, 0, 0]]


@pytest.mark.parametrize(
    ("changes", "native", "expected"),
    [
        ({}, (480, 854), ((480, 854), (480, 854))),
        ({"multiple_px": 14}, (480, 854), ((480, 854), (476, 854))),
        ({"short_px": 480, "multiple_px": 64}, (1080, 1920), ((480, 853), (480, 832))),
        ({"short_px": 480, "multiple_px": 64}, (1920, 1080), ((853, 480), (832, 480))),
        ({"short_px": "dataset", "multiple_px": 64}, (1080, 1920), ((320, 320), (320, 320))),
    ],
)
def test_sizes(changes, native, expected):
    assert of(**changes).sizes(native, (320, 320)) == expected
