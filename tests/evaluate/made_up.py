"""Small videos whose truth is known, as a source, and what an evaluation is given of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from vocl import assemble
from vocl.config.compose import composed
from vocl.data.truth import Truth
from vocl.interface import SegmentOptions, Source, Subject, VideoModel

CPU = torch.device("cpu")
OPTIONS = SegmentOptions(cyclic=False, iterations=None, seed=0)
DATASET = replace(
    assemble.make_dataset(composed(["dataset=synthetic"])),
    name="made up",
    size_px=[24, 32],
    fit="stretch",
    normalise="half",
)


@dataclass(frozen=True)
class MadeUp:
    """One video; its frames show the labels, as red = 10 times the label."""

    name: str
    labels: np.ndarray  # t h w

    @property
    def length(self) -> int:
        return len(self.labels)

    @property
    def size(self) -> tuple[int, int]:
        return self.labels.shape[1:]

    def frames(self, indices) -> np.ndarray:
        return np.repeat((self.labels[list(indices)] * 10)[..., None], 3, axis=-1).astype(np.uint8)


class Videos(Source):
    """The videos and, by their names, what is true about them."""

    def __init__(self, videos: list[MadeUp], truths: dict[str, Any] | None = None) -> None:
        self.videos = videos
        self.truths = {v.name: Truth.from_labels(v.labels) for v in videos} if truths is None else truths

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> MadeUp:
        return self.videos[index]

    def truth(self, name: str) -> Any:
        return self.truths.get(name)


def subject_of(model: VideoModel, source: Source, **changes) -> Subject:
    """`model` to be scored on every split of `source`; `changes` to the dataset."""
    return Subject(model=model, dataset=replace(DATASET, **changes), source=lambda _: source, device=CPU)


def labels_of(video: torch.Tensor) -> torch.Tensor:
    """The labels b t h w that a clip's frames show."""
    return ((video[:, :, 0] * 0.5 + 0.5) * 255 / 10).round().long()


def squares(*places: list[tuple[int, int]], size=(24, 32), side: int = 8) -> np.ndarray:
    """Label maps t h w: object o + 1 is a square whose top left corner is `places[o][t]`."""
    out = np.zeros((len(places[0]), *size), np.uint8)
    for label, corners in enumerate(places, start=1):
        for t, (y, x) in enumerate(corners):
            out[t, y : y + side, x : x + side] = label
    return out
