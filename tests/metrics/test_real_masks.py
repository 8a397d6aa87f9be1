"""Known scores of one method's masks against another's, on real sequences beside the checkout."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vocl.metrics.contingency import contingency, score_video
from vocl.metrics.overlap import scores

SHARED = Path(os.environ.get("VOCL_SHARED") or Path(__file__).resolve().parents[3] / "shared")
MASKS = SHARED / "data" / "davis2017_results"
KNOWN = {  # image FG-ARI, video FG-ARI, video ARI, video mBO, volume IoU
    "judo": (0.1665, 0.1050, 0.4640, 0.3525, 0.3015),
    "dogs-jump": (0.3140, 0.1843, 0.8413, 0.2961, 0.2833),
    "gold-fish": (0.5012, 0.3442, 0.5323, 0.2342, 0.1951),
    "kite-surf": (0.3644, 0.3961, 0.7443, 0.2566, 0.2224),
}
NAMES = ("image_fg_ari", "video_fg_ari", "video_ari", "video_mbo", "video_miou_volume")


@cache
def label_map(method: str, sequence: str) -> torch.Tensor:
    files = sorted((MASKS / method / sequence).glob("*.png"))
    if not files:
        pytest.skip(f"no masks of {method} for {sequence} in $VOCL_SHARED/data")
    return torch.from_numpy(np.stack([np.array(Image.open(file)) for file in files]))


@pytest.mark.parametrize("sequence", KNOWN)
def test_known_scores(sequence):
    truth, labels = label_map("osvos", sequence), label_map("rvos", sequence)
    table = contingency(truth, labels, int(truth.max()) + 1, int(labels.max()) + 1)
    row = score_video(scores(empty="skip"), table)
    assert [row[name] for name in NAMES] == pytest.approx(KNOWN[sequence], abs=5.1e-5)
    assert row["num_frames"] == len(truth)


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
