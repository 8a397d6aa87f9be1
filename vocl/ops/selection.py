"""Which slots of a frame count as objects, without a look at the truth.

SMTC (Qian et al., ICCV 2023), eq. 11: an instance counts if its semantics is large enough and near
to it. Letters as in `vocl.interface`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Le
from einops import rearrange
from torch import Tensor

from vocl.interface import Grid


@dataclass(frozen=True, kw_only=True)
class Validity:
    """A patch belongs to a map where that is above `level`. A slot is valid if its parent's map (its own,
    where it has no parent) has at least the share `min_area` of the patches, and its score, where
    there are scores, is at least `min_score`. It lies on the border if its parent's map has more than
    the share `max_border` of the outermost patches."""

    level: Annotated[float, Ge(0), Le(1)]
    min_area: Annotated[float, Ge(0), Le(1)]
    min_score: float
    max_border: Annotated[float, Ge(0), Le(1)]

    def valid(self, masks: Tensor, scores: Tensor | None, parent: Tensor | None) -> Tensor:
        """Slots that are valid, t k bool: `masks` t k n, `scores` t k, `parent` k."""
        large = self._covered(masks, parent).float().mean(-1) >= self.min_area
        return large if scores is None else large & (scores >= self.min_score)

    def on_border(self, masks: Tensor, parent: Tensor | None, grid: Grid) -> Tensor:
        """Slots that lie on the border of the frame, t k bool."""
        covered = self._covered(masks, parent)[..., _ring(grid).to(masks.device)]
        return covered.float().mean(-1) > self.max_border

    def _covered(self, masks: Tensor, parent: Tensor | None) -> Tensor:
        """Patches t k n of each slot's parent."""
        if parent is not None:
            sums = masks.new_zeros(len(masks), int(parent.max()) + 1, masks.shape[2])
            masks = sums.index_add_(1, parent, masks)[:, parent]
        return masks > self.level


def _ring(grid: Grid) -> Tensor:
    """The outermost patches, n bool."""
    ring = torch.ones(grid, dtype=torch.bool)
    ring[1:-1, 1:-1] = False
    return rearrange(ring, "r s -> (r s)")
