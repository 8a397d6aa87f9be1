"""Batches without a dataset."""

from __future__ import annotations

import torch

from vocl import assemble
from vocl.config import folders
from vocl.config.proof import signature
from vocl.config.run_config import RunConfig
from vocl.data.annotations import in_fields
from vocl.interface import Clip, VideoModel

POINTS = 16  # or boxes that a frame is taken to have


def empty_clip(config: RunConfig, model: VideoModel, b: int, t: int) -> Clip:
    """`b` clips of `t` frames, of the size and with all the fields that the feed would give the training."""
    h, w = config.dataset.size_px
    video = [torch.empty(b, t, 3, h, w) for _ in range(1 + config.dataset.views)]
    shapes = {
        "labels": ((b, t, h, w), torch.uint8),
        "dense": ((b, t, 1, h, w), torch.float32),
        "vectors": ((b, t, 2, h, w), torch.float32),
        "points": ((b, t, POINTS, 3), torch.float32),
        "boxes": ((b, t, POINTS, 5), torch.float32),
    }
    kinds = _annotations(config, assemble.clip_needs(config, model, training=True))
    return Clip(
        video=video[0],
        valid=torch.ones(b, t, dtype=torch.bool),
        key=torch.zeros(b, dtype=torch.int64),
        names=("",) * b,
        frames=torch.zeros(b, t, dtype=torch.int64),
        flipped=torch.zeros(b, dtype=torch.bool),
        views=tuple(video[1:]),
        **in_fields({n: torch.zeros(shapes[k][0], dtype=shapes[k][1]) for n, k in kinds.items()}),
    )


def _annotations(config: RunConfig, needs: frozenset[str]) -> dict[str, str]:
    """The kinds of the annotations that are read, by name."""
    source = signature.read(config.dataset.source["_target_"], folders.packages(config.project))
    return {name: source.attributes["annotated"][name] for name in needs - {"video", "views"}}
