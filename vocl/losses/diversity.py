"""Masks that differ."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Protocol

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from vocl.interface import Clip
from vocl.losses.reduction import mean_of_all


class _Masks(Protocol):
    semantic_masks: Tensor


class MaskDiversity(nn.Module):
    """Cosine, over the patches of a frame, of the masks of two semantics n != m (SMTC, eq. 10).

    `floor` is added to the masks: 1e-8 in the release, 0 in the paper. `reduction`: "mean" over
    ordered pairs, frames and clips (release), or "sum" over pairs and frames and mean over clips
    (paper), which is t N (N - 1) times as large. 0 for a single semantics. Padded frames do not
    count. `preset`: see the model.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"semantic_masks"})

    def __init__(
        self,
        *,
        preset: Literal["paper", "release"] | None,
        floor: Annotated[float, Ge(0)],
        reduction: Literal["mean", "sum"],
    ) -> None:
        super().__init__()
        self.preset, self.floor, self.reduction = preset, floor, reduction

    def forward(self, output: _Masks, clip: Clip) -> Tensor:
        """Scalar, from `output.semantic_masks` b t N n."""
        masks = F.normalize(output.semantic_masks.float() + self.floor, dim=-1, eps=1e-12)
        cosines = masks @ masks.transpose(-1, -2)
        count = masks.shape[2]
        others = ~torch.eye(count, dtype=torch.bool, device=masks.device)
        per_frame = torch.where(others, cosines, 0).sum((2, 3))
        total = torch.where(clip.valid, per_frame, 0).sum()
        if self.reduction == "sum":
            return total / len(masks)
        return mean_of_all(total, clip.valid.sum() * max(count * (count - 1), 1))
