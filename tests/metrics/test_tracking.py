"""Slots as tracks, by TrackEval: masks of known quality, and what happens without the package."""

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
from vocl.errors import UserError
from vocl.metrics import tracking
from vocl.metrics.contingency import contingency

SHARED = Path(os.environ.get("VOCL_SHARED") or Path(__file__).resolve().parents[3] / "shared")
MASKS = SHARED / "data" / "davis2017_results" / "osvos"
KNOWN = {  # identities 1 and 2 exchanged in the second half: HOTA, AssA, IDF1
    "dogs-jump": (0.755, 0.569, 0.698),
    "gold-fish": (0.856, 0.733, 0.801),
}


@pytest.fixture(scope="module", autouse=True)
def library():
    pytest.importorskip("trackeval", reason="TrackEval is an extra: pip install 'vocl[tracking]'")


@cache
def truth_of(sequence: str) -> torch.Tensor:
    files = sorted((MASKS / sequence).glob("*.png"))
    if not files:
        pytest.skip(f"no masks of {sequence} in $VOCL_SHARED/data")
    return torch.from_numpy(np.stack([np.array(Image.open(file)) for file in files])).long()


def scored(truth: torch.Tensor, labels: torch.Tensor) -> tuple[dict[str, float], int]:
    classes = int(truth.max()) + 1
    video = tracking.track_video(contingency(truth, labels, classes, int(labels.max()) + 1))
    return tracking.track_scores([video]), tracking.num_switches(video)


@pytest.mark.parametrize("sequence", KNOWN)
def test_perfect_and_exchanged_and_shuffled_identities(sequence):
    truth = truth_of(sequence)
    perfect, switches = scored(truth, truth)
    assert perfect == {**dict.fromkeys(tracking.NAMES, 1.0), "switches_per_object_frame": 0} and switches == 0

    names = torch.arange(int(truth.max()) + 1)
    exchanged, half = names.clone(), len(truth) // 2
    exchanged[1:3] = torch.tensor([2, 1])
    swapped, switches = scored(truth, torch.cat([truth[:half], exchanged[truth[half:]]]))
    found = [swapped[name] for name in ("hota", "assa", "idf1")]
    assert found == pytest.approx(KNOWN[sequence], abs=5.1e-4)
    assert swapped["deta"] == 1 and switches == 2

    generator = torch.Generator().manual_seed(0)
    orders = [torch.cat([names[:1], 1 + torch.randperm(len(names) - 1, generator=generator)]) for _ in truth]
    shuffled, switches = scored(
        truth, torch.stack([o[frame] for o, frame in zip(orders, truth, strict=True)])
    )
    assert shuffled["deta"] == 1 and shuffled["assa"] < 0.25 and switches > 100


def test_slots_of_the_background_are_no_tracks():
    truth = torch.zeros(4, 8, 16, dtype=torch.int64)
    truth[:, :, :4] = 1
    labels = truth.clone()
    labels[:, :, 8:12] = 2  # two further slots share the background
    labels[:, :, 12:] = 3
    found, switches = scored(truth, labels)
    assert found == {**dict.fromkeys(tracking.NAMES, 1.0), "switches_per_object_frame": 0} and switches == 0


def test_videos_together():
    one, two = torch.zeros(2, 4, 4, 8, dtype=torch.int64)
    one[:, :, :4] = 1
    two[:, :, :2] = 1
    lost = torch.zeros_like(two)
    videos = [tracking.track_video(contingency(t, found, 2, 2)) for t, found in ((one, one), (two, lost))]
    scores = tracking.track_scores(videos)
    assert scores["idr"] == 0.5 and scores["deta"] == 0.5
    nothing = tracking.track_video(contingency(lost, lost, 2, 2))
    assert all(np.isnan(value) for value in tracking.track_scores([nothing]).values())


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'vocl\[tracking\]'"):
        assemble.make_evaluation(composed(["eval=[tracking]"]), "tracking")
