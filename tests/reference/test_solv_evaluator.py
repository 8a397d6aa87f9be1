"""SOLV's linking, evaluator and schedules against values of the reference implementation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from vocl import assemble
from vocl.config.compose import composed
from vocl.metrics.contingency import contingency
from vocl.metrics.first_frame import FrameAverageIoU, MatchedForegroundARI, first_frame_table, relabelled
from vocl.nn.merging import MergeSimilar
from vocl.ops.linking import inherit

FILE = "solv.safetensors"


@pytest.fixture(scope="module")
def values(golden) -> dict[str, Tensor]:
    return golden(FILE)[1]


@pytest.fixture(scope="module")
def settings(golden) -> dict[str, str]:
    return golden(FILE)[2]


def test_linking(values):
    counts = values["linking.counts"].tolist()
    slots = [one.numpy() for one in values["linking.slots"].split(counts)]
    labels = values["linking.labels"].long().numpy()
    ids = np.arange(counts[0])
    for t, label in enumerate(labels):
        ids = inherit(slots[t - 1], slots[t], ids) if t else ids
        assert (ids[label] == values["linking.linked"][t].long().numpy()).all()


def videos(values: dict[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    numbers = sorted(
        {
            int(key.split(".")[1])
            for key in values
            if key.startswith("metric.") and key.split(".")[1].isdigit()
        }
    )
    return [(values[f"metric.{i}.truth"], values[f"metric.{i}.prediction"]) for i in numbers]


@pytest.mark.parametrize("rule", ["fixed", "legacy"])
def test_scores(values, rule):
    iou, ari = (kind(legacy_rank_bug=rule == "legacy") for kind in (FrameAverageIoU, MatchedForegroundARI))
    rows, objects = [], []
    for truth, found in videos(values):
        table = contingency(truth, found.long(), int(truth.max()) + 1, int(found.max()) + 1)
        rows.append([float(iou(table)), float(ari(table))])
        objects.append(iou.score(table)[1])
    torch.testing.assert_close(
        torch.tensor(rows), values[f"metric.{rule}.per_video"], rtol=0, atol=1e-5, equal_nan=True
    )
    assert sum(objects) == len(values[f"metric.{rule}.object_iou"])
    means = torch.tensor([float(iou.compute()), float(ari.compute())])
    torch.testing.assert_close(means, values[f"metric.{rule}.miou_fgari"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("rule", ["fixed", "legacy"])
def test_relabelled_maps(values, rule):
    """By their counts: points of each object of frame 0 that bear each object's name."""
    for i, (truth, found) in enumerate(videos(values)):
        theirs = values[f"metric.{i}.relabelled_{rule}"]
        begins = [label for label in truth[0].unique().tolist() if label]
        if not begins:
            continue
        table = contingency(truth, found.long(), int(truth.max()) + 1, int(found.max()) + 1)
        ours = relabelled(first_frame_table(table), rule == "legacy")
        names_of = torch.zeros(256, dtype=torch.int64)
        names_of[begins] = torch.arange(len(begins)) + 1
        known = torch.where(torch.isin(truth.long(), torch.tensor(begins)), names_of[truth.long()], 0)
        expected = contingency(known, names_of[theirs.long()], len(begins) + 1, len(begins) + 1)
        assert torch.equal(ours, expected)


def test_the_learning_rate(values, settings):
    theirs = values["schedule.lr"]
    steps, warmup = len(theirs), int(0.05 * len(theirs))
    config = composed(
        [
            "experiment=solv/ytvis2019",
            "backbone=tiny_vit",
            f"train.steps={steps}",
            f"optim.lr={settings['schedule_lr']}",
            f"optim.schedule.warmup_steps={warmup}",
            f"optim.schedule.half_life_steps={(steps - warmup) // 3}",
        ]
    )
    optimizer = assemble.make_optimizer(config)
    ours = torch.tensor([optimizer.rate(step) for step in range(steps)])
    assert (ours - theirs).abs().max() < 1e-4 * theirs.max()


def test_the_chance_to_keep_all_slots(values, settings):
    theirs = values["schedule.keep_all_probability"]
    per_epoch = int(settings["schedule_steps_per_epoch"])
    epochs = len(theirs)
    merging = MergeSimilar(threshold=0.12, min_clusters=3, steps=epochs * per_epoch, epochs=epochs)
    for epoch, chance in enumerate(theirs.tolist()):
        for step in (epoch * per_epoch, (epoch + 1) * per_epoch - 1):
            assert merging.chance_to_keep(step) == pytest.approx(chance, abs=1e-6)
