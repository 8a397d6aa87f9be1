"""Outputs of a student and its teacher for tests of losses, drawn at random."""

from __future__ import annotations

import torch
from torch import Tensor

from vocl.interface import Clip, Grid
from vocl.models.smtc import SemanticOutput

B, T, N, P, PATCHES, D = 3, 4, 5, 4, 12, 8


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pathway(seed: int, b: int = B, t: int = T, instances: int = P) -> SemanticOutput:
    logits = 2 * draw(seed, b, t, N, PATCHES)
    objects = draw(seed + 1, b, t, N, instances, D)
    return SemanticOutput(
        slots=objects.flatten(2, 3),
        attn=logits,
        grid=Grid(3, 4),
        features=draw(seed + 2, b, t, PATCHES, D),
        semantic_logits=logits,
        semantic_masks=logits.softmax(2),
        objects=torch.nn.functional.normalize(objects, dim=-1),
        valid=draw(seed + 3, b, t, N, instances) > 0,
    )


def both(b: int = B, t: int = T, instances: int = P) -> SemanticOutput:
    student = pathway(0, b, t, instances)
    student.teacher = pathway(10, b, t, instances)
    return student


def clip_of(output: SemanticOutput, valid: Tensor | None = None) -> Clip:
    b, t = output.features.shape[:2]
    valid = torch.ones(b, t, dtype=torch.bool) if valid is None else valid
    return Clip(torch.zeros(b, t, 3, 1, 1), valid, torch.arange(b), ("a",) * b)


def rows(output: SemanticOutput, clips: slice, frames: slice = slice(None)) -> SemanticOutput:
    """Some clips, and some frames of them."""
    fields = vars(output)
    cut = {name: value[clips, frames] for name, value in fields.items() if isinstance(value, Tensor)}
    teacher = rows(output.teacher, clips, frames) if output.teacher else None
    return SemanticOutput(**fields | cut | {"teacher": teacher})
