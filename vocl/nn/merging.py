"""Similar slots become one: what an object was split into is put together again (SOLV)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from einops import repeat
from torch import Tensor

from vocl.ops.clustering import complete_linkage
from vocl.ops.random import uniform

EPSILON = 1e-8


@dataclass
class Merged:
    """Clusters in the first rows, then zeros: `slots` m k d, `weights` m k n, `attn` m k n, `active` m k.

    `weights` sum to 1 over n (uniform in rows not active: their pose stays finite, and so do
    gradients), None where none were given; `attn` sums to 1 over k.
    """

    slots: Tensor
    weights: Tensor | None
    attn: Tensor
    active: Tensor


class MergeSimilar:
    """Agglomerative clustering of a frame's slots: cosine distance, complete linkage (SOLV, sec. 3).

    `threshold`: slots at this cosine distance or farther stay apart. A result of fewer than
    `min_clusters` is discarded, at test too. In training all slots are kept with the chance
    1 - ln(e + 1) / ln(E) in epoch e of E = `epochs`, drawn for each clip from its key: training
    begins without merging and ends with it. Epochs are equal shares of `steps`.
    """

    def __init__(
        self,
        *,
        threshold: Annotated[float, Gt(0), Le(2)],
        min_clusters: Annotated[int, Ge(1)],
        steps: Annotated[int, Ge(0)],
        epochs: Annotated[int, Ge(1)],
    ) -> None:
        self.threshold, self.min_clusters = threshold, min_clusters
        self.steps, self.epochs = steps, epochs

    def chance_to_keep(self, step: int) -> float:
        """The chance that a clip's slots are not merged at `step`."""
        epoch = min(step * self.epochs // max(self.steps, 1), self.epochs - 1)
        return 1 - math.log(epoch + 1) / math.log(self.epochs) if self.epochs > 1 else 0.0

    def labels(self, slots: Tensor, key: Tensor | None = None, chance_to_keep: float = 0.0) -> Tensor:
        """Cluster of each slot, m k int64, from `slots` m k d; with `key` (m) some frames keep all."""
        vectors = slots.detach().float().cpu().numpy()
        found = np.stack([complete_linkage(frame, self.threshold) for frame in vectors])
        found[found.max(axis=1) + 1 < self.min_clusters] = np.arange(found.shape[1])
        labels = torch.from_numpy(found).to(slots.device)
        if key is None:
            return labels
        keep = uniform(key, "merge", (1,)) < chance_to_keep
        return torch.where(keep, alone(slots), labels)


def alone(slots: Tensor) -> Tensor:
    """Labels m k that keep every slot of `slots` m k d."""
    return repeat(torch.arange(slots.shape[1], device=slots.device), "k -> m k", m=len(slots))


def merge(slots: Tensor, weights: Tensor | None, attn: Tensor, labels: Tensor) -> Merged:
    """Put slots of one label together: `slots` m k d, `weights` m k n, `attn` m k n, `labels` m k.

    A merged slot is the mean of its members; its attn is their sum, as of events that exclude each
    other; its weights over patches are their sum, normalised again. Gradients flow through all
    three; the labels are constants.
    """
    members = torch.nn.functional.one_hot(labels, slots.shape[1]).to(slots.dtype).transpose(1, 2)
    active = members.any(dim=-1)
    mean = members @ slots / (members.sum(-1, keepdim=True) + EPSILON)
    if weights is not None:
        weights = members @ weights + EPSILON
        weights = weights / weights.sum(-1, keepdim=True)
    return Merged(mean, weights, members @ attn, active)
