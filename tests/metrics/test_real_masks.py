"""Known scores of one method's masks against another's, on real sequences beside the checkout."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vocl import assemble
from vocl.config.compose import composed
from vocl.evaluate.masks.counts import VideoCounts
from vocl.metrics.contingency import contingency, score_video
from vocl.metrics.overlap import scores

SHARED = Path(os.environ.get("VOCL_SHARED") or Path(__file__).resolve().parents[3] / "shared")
MASKS = SHARED / "data" / "davis2017_results"
SEQUENCES = ("judo", "dogs-jump", "gold-fish", "kite-surf")
TABLE = {  # a published column of numbers for one prediction: protocol, score, and the four sequences' values
    "per-frame FG-ARI": ("vocl", "image_fg_ari", (0.1665, 0.3140, 0.5012, 0.3644)),
    "after SOLV's relabelling": ("solv", "image_fg_ari", (0.1664, 0.3116, 0.4980, 0.3681)),
    "video FG-ARI": ("vocl", "video_fg_ari", (0.1050, 0.1843, 0.3442, 0.3961)),
    "video ARI with background": ("vocl", "video_ari", (0.4640, 0.8413, 0.5323, 0.7443)),
    "SOLV's mIoU": ("solv", "video_miou_frame_avg", (0.3118, 0.2675, 0.2003, 0.2231)),
    "official J, assigned by J + F": ("davis2017", "j_mean", (0.3118, None, None, None)),
    "official J, assigned by J": ("davis2017", "video_miou_frame_avg", (None, 0.3126, 0.2015, 0.3495)),
    "SMTC's J": ("smtc", "video_miou_frame_avg", (0.3428, 0.3621, 0.2415, 0.3520)),
    "best overlap, mean over frames": ("davis2017", "video_mbo_frame_avg", (0.3594, 0.3126, 0.2341, 0.3823)),
    "IoU of volumes, one to one": ("vocl", "video_miou_volume", (0.3015, 0.2833, 0.1951, 0.2224)),
    "best overlap of volumes": ("vocl", "video_mbo", (0.3525, 0.2961, 0.2342, 0.2566)),
}


@cache
def label_map(method: str, sequence: str) -> torch.Tensor:
    files = sorted((MASKS / method / sequence).glob("*.png"))
    if not files:
        pytest.skip(f"no masks of {method} for {sequence} in $VOCL_SHARED/data")
    return torch.from_numpy(np.stack([np.array(Image.open(file)) for file in files]))


@cache
def row(protocol: str, sequence: str, contours: bool) -> dict[str, float]:
    """The scores of one method's masks by a protocol of conf/eval; J and F of contours take seconds."""
    words = ["eval=[discovery]", f"eval/protocol@eval.discovery.protocol={protocol}"]
    words += [] if contours else ["eval.discovery.protocol.contours=false"]
    chosen = assemble.make_evaluation(composed(words), "discovery").protocol
    truth, labels = label_map("osvos", sequence), label_map("rvos", sequence)
    counts = VideoCounts(chosen, int(truth.max()) + 1)
    counts.add(truth, labels, int(labels.max()) + 1)
    return counts.scored(chosen.discovery_metrics() | chosen.object_metrics())[0]


@pytest.mark.parametrize(
    ("column", "sequence"),
    [
        (column, sequence)
        for column, (_, _, values) in TABLE.items()
        for sequence, value in zip(SEQUENCES, values, strict=True)
        if value is not None  # the number of this sequence was assigned otherwise
    ],
)
def test_one_prediction_under_the_fields_protocols(column, sequence):
    protocol, score, values = TABLE[column]
    known = values[SEQUENCES.index(sequence)]
    found = row(protocol, sequence, score == "j_mean")
    assert f"{found[score]:.4f}" == f"{known:.4f}"
    assert found["num_frames"] == len(label_map("osvos", sequence))


@pytest.mark.parametrize(("sequence", "swapped"), [("dogs-jump", 0.503), ("gold-fish", 0.893)])
def test_identities_lost_in_perfect_masks(sequence, swapped):
    truth = label_map("osvos", sequence)
    classes = int(truth.max()) + 1
    names = torch.arange(classes)
    exchanged = names.clone()
    exchanged[1:3] = torch.tensor([2, 1])
    half = len(truth) // 2
    labels = torch.cat([truth[:half].long(), exchanged[truth[half:].long()]])
    row = score_video(scores(empty="skip"), contingency(truth, labels, classes, classes))
    assert row["image_fg_ari"] == 1
    assert row["video_fg_ari"] == pytest.approx(swapped, abs=5.1e-4)

    generator = torch.Generator().manual_seed(0)
    orders = [torch.cat([names[:1], 1 + torch.randperm(classes - 1, generator=generator)]) for _ in truth]
    labels = torch.stack([order[frame.long()] for order, frame in zip(orders, truth, strict=True)])
    row = score_video(scores(empty="skip"), contingency(truth, labels, classes, classes))
    assert row["image_fg_ari"] == 1
    assert abs(row["video_fg_ari"]) < 0.05
