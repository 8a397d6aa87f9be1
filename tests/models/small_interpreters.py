"""Small Interpreters as their config assembles them, and clips for them."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from vocl import assemble
from vocl.config.compose import composed
from vocl.interface import Clip, SegmentOptions
from vocl.models.interpreter import Interpreter
from vocl.ops.clustering import cosine_distances

SMALL = (
    "experiment=interpreter/synthetic",
    "backbone=tiny_vit",
    "dataset.size_px=[56,56]",
    "dataset.clip_frames=5",
    "model.slot_dim=16",
    "model.image.num_slots=7",
    "model.image.slot_dim=12",
    "model.image.decoder.dim=16",
    "model.video.decoder.dim=16",
)
OPTIONS = SegmentOptions(cyclic=False, iterations=None, seed=0)


def make(*overrides: str) -> Interpreter:
    torch.manual_seed(0)
    return assemble.make_model(composed([*SMALL, *overrides]), pretrained=False)


def begin(model: Interpreter, level: str, *overrides: str) -> Interpreter:
    stages = assemble.make_curriculum(composed([*SMALL, *overrides])).stages
    model.begin(next(stage for stage in stages if stage.level == level), 0)
    return model


def clip_of(batch: int = 2, frames: int = 5, said: bool = False) -> Clip:
    """Noise; `said`: with the numbers of its frames and whether they are mirrored."""
    video = torch.randn(batch, frames, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    more = {"frames": torch.arange(frames).repeat(batch, 1), "flipped": torch.arange(batch) % 2 == 1}
    names = tuple(f"video {i}" for i in range(batch))
    key = torch.arange(batch) + 7
    return Clip(video, torch.ones(batch, frames, dtype=torch.bool), key, names, **(more if said else {}))


def provided(output) -> set[str]:
    return {f.name for f in dataclasses.fields(output) if getattr(output, f.name) is not None}


def merge_the_nearest(model: Interpreter, slots: Tensor) -> None:
    """Set the threshold so that the two nearest of `slots` k d merge, and no others."""
    distances = torch.from_numpy(cosine_distances(slots.detach().numpy()))[*torch.triu_indices(6, 6, 1)]
    model.video.merging.threshold = float(distances.sort().values[:2].mean())


def gradients(model: Interpreter) -> set[str]:
    return {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}


def part(clip: Clip, rows: slice, frames: slice) -> Clip:
    return Clip(clip.video[rows, frames], clip.valid[rows, frames], clip.key[rows], clip.names[rows])
