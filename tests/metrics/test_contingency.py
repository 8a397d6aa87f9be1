from __future__ import annotations

import math

import pytest
import torch

from vocl.interface import VOID
from vocl.metrics import contingency as module
from vocl.metrics.contingency import contingency, score_video
from vocl.metrics.overlap import scores

SHAPE = (5, 6, 7)


def random_maps(num_classes: int = 4, num_slots: int = 3, void: bool = True):
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(0, num_classes, SHAPE, generator=generator)
    labels = torch.randint(0, num_slots, SHAPE, generator=generator)
    if void:
        truth[torch.rand(SHAPE, generator=generator) < 0.2] = VOID
    return truth, labels


def counted_one_by_one(truth, labels, num_classes: int, num_slots: int):
    table = torch.zeros(len(truth), num_classes, num_slots, dtype=torch.int64)
    for t, frame in enumerate(truth):
        for label, slot in zip(frame.flatten().tolist(), labels[t].flatten().tolist(), strict=True):
            if label != VOID:
                table[t, label, slot] += 1
    return table


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
@pytest.mark.parametrize("chunk_points", [1, 100, 2**18])
def test_counts_every_point_that_is_not_void(monkeypatch, dtype, chunk_points):
    monkeypatch.setattr(module, "CHUNK_POINTS", chunk_points)
    truth, labels = random_maps()
    table = contingency(truth.to(dtype), labels.to(dtype), 6, 4)
    assert table.dtype == torch.int64
    assert torch.equal(table, counted_one_by_one(truth, labels, 6, 4))
    assert table.sum() == (truth != VOID).sum()


def test_what_is_predicted_on_void_does_not_matter():
    truth, labels = random_maps()
    other = torch.where(truth == VOID, (labels + 1) % 3, labels)
    assert not torch.equal(labels, other)
    assert torch.equal(contingency(truth, labels, 4, 3), contingency(truth, other, 4, 3))


def test_strided_maps_and_a_video_without_frames():
    truth, labels = random_maps()
    turned = contingency(truth.transpose(1, 2), labels.transpose(1, 2), 4, 3)
    assert torch.equal(turned, contingency(truth, labels, 4, 3))
    assert contingency(truth[:0], labels[:0], 4, 3).shape == (0, 4, 3)


@pytest.mark.parametrize(
    ("dtype", "bad"), [(torch.int64, 4), (torch.uint8, 254), (torch.int64, -1), (torch.int64, 300)]
)
def test_labels_out_of_range_are_refused(dtype, bad):
    truth, labels = random_maps()
    truth[3, 0, 0] = bad
    with pytest.raises(AssertionError, match="truth has"):
        contingency(truth.to(dtype), labels, 4, 3)


@pytest.mark.parametrize("bad", [3, -1])
def test_slots_out_of_range_are_refused(bad):
    truth, labels = random_maps()
    labels[2, 1, 1] = bad
    with pytest.raises(AssertionError, match="slots"):
        contingency(truth, labels, 4, 3)


def test_a_row_holds_the_seven_scores_of_one_video_and_its_sizes():
    metrics = scores(empty="skip")
    names = [f"{level}_{score}" for level in ("image", "video") for score in ("ari", "fg_ari", "mbo")]
    assert set(metrics) == {*names, "video_miou_volume"}

    truth, labels = random_maps(void=False)
    truth[1] = 0
    truth[truth == 2] = 0
    row = score_video(metrics, contingency(truth, labels, 5, 3))
    alone = score_video(scores(empty="skip"), contingency(truth, labels, 5, 3))
    assert set(row) == set(metrics) | {"num_objects", "num_frames", "num_empty_frames"}
    assert (row["num_objects"], row["num_frames"], row["num_empty_frames"]) == (2, 5, 1)

    other = score_video(metrics, contingency(truth[2:3], labels[2:3], 5, 3))
    assert row == alone
    for name, metric in metrics.items():
        weights = (4 if name != "image_ari" else 5, 1) if name.startswith("image") else (1, 1)
        expected = (row[name] * weights[0] + other[name] * weights[1]) / sum(weights)
        assert float(metric.compute()) == pytest.approx(expected, abs=1e-12)


def test_a_set_without_anything_to_count_scores_nan():
    metrics = scores(empty="skip")
    void = torch.full((2, 3, 3), VOID)
    row = score_video(metrics, contingency(void, torch.zeros_like(void), 3, 2))
    assert all(math.isnan(row[name]) for name in metrics)
    assert all(metric.compute().isnan() for metric in metrics.values())
    assert row["num_empty_frames"] == 2
