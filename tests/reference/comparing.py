"""How values are compared with a reference's, and its clips."""

from __future__ import annotations

import os
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Module

from vocl import assemble
from vocl.interface import Clip, Output
from vocl.loading import Loaded
from vocl.ops.masks import hard_masks

FOLDER = Path(os.environ.get("VOCL_GOLDEN", Path(__file__).parents[2] / "../shared/golden"))


def distance(ours: Tensor, theirs: Tensor) -> float:
    """max |ours - theirs| / max |theirs|, leading ones of the shapes aside."""
    assert ours.squeeze().shape == theirs.squeeze().shape
    return float((ours.detach().squeeze() - theirs.squeeze()).abs().max() / theirs.abs().max())


def part(golden: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, without it."""
    return {key.removeprefix(prefix): value for key, value in golden.items() if key.startswith(prefix)}


def count(state: dict[str, Tensor], prefix: str) -> int:
    """Number of consecutive blocks under `prefix`."""
    return 1 + max(int(key.removeprefix(prefix).split(".")[0]) for key in state if key.startswith(prefix))


def clip_of(video: Tensor, step: int = 0) -> Clip:
    """A clip of `video` b t c h w with keys `step`, `step` + 1, ..."""
    b, t = video.shape[:2]
    return Clip(video, torch.ones(b, t, dtype=torch.bool), torch.arange(b) + step, tuple(map(str, range(b))))


def forward_and_backward(
    loaded: Loaded, video: Tensor, step: int = 0
) -> tuple[Module, Output, dict[str, Tensor]]:
    """The model, with gradients, in the stage of `step`; its output and losses, `total` among them."""
    clip = clip_of(video)
    loaded.model.begin(assemble.make_curriculum(loaded.config).stage(step), step)
    output = loaded.model(clip)
    total, terms = assemble.make_objective(loaded.config)(output, clip, "all", step)
    total.backward()
    return loaded.model, output, {"total": total.detach(), **terms}


def assert_same_hard_masks(output: Output, theirs: Tensor) -> None:
    """Equal to `theirs` b t h w wherever the two best slots are further apart than twice the error
    that their soft masks may have (1e-4 of the largest)."""
    size = tuple(theirs.shape[-2:])
    ours = hard_masks(output.masks, output.grid, size)
    folded = output.masks.detach().unflatten(-1, tuple(output.grid)).flatten(0, 1)
    soft = F.interpolate(folded, size=size, mode="bilinear", align_corners=False)
    best, second = soft.topk(2, dim=1).values.unflatten(0, ours.shape[:2]).unbind(2)
    clear = best - second > 2e-4 * float(output.masks.detach().max())
    assert clear.any(), "no pixel is clear: the masks say nothing"
    assert torch.equal(ours[clear], theirs.long()[clear])


def pairs_of(values: dict[str, Tensor]) -> tuple[list[int], list[int]]:
    """Of SMTC's pairs of frames the first ones and the second ones."""
    return tuple(values["pairs"].t().tolist())
