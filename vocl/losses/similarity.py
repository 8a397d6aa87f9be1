"""Where a patch's like will be in the next frame (VideoSAUR)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Protocol

import torch
import torch.nn.functional as F
from annotated_types import Gt
from torch import Tensor, nn

from vocl.errors import UserError
from vocl.interface import Clip


class _Similarity(Protocol):
    similarity: Tensor
    keys: Tensor
    features: Tensor


class TemporalSimilarity(nn.Module):
    """Temporal feature similarity (Zadaianchuk et al., VideoSAUR, NeurIPS 2023).

    With features a (n e) of a frame, detached and normalised to length 1, and those a' of the next:

        target = softmax over the patches j of the next frame of  a_i . a'_j / temperature
        loss   = cross-entropy of target to softmax of the logits `output.similarity`[i]

    mean over patches i, frames but the last, and clips; pairs of frames of which one is padding do
    not count (the release knows no padding). Pairs of patches with a negative product get no share
    of the target; a patch for which all are negative has a uniform one. `of`: the keys of the
    backbone's last attention (the paper), or its `features`: our option for backbones that have no
    attention.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"similarity", "{of}"})
    min_frames: ClassVar[int] = 2

    def __init__(self, *, temperature: Annotated[float, Gt(0)], of: Literal["keys", "features"]) -> None:
        super().__init__()
        self.temperature = temperature
        self.of = of

    def forward(self, output: _Similarity, clip: Clip) -> Tensor:
        """Scalar, from `output.similarity` b t n n and `output.keys` (or `features`) b t n e."""
        logits = output.similarity[:, :-1].float()
        if logits.shape[1] < 1:
            raise UserError("dataset.clip_frames=1: loss.temporal_similarity compares neighbouring frames")
        target = self.target(output.keys if self.of == "keys" else output.features)
        # sum of target * -log_softmax(logits), without a third tensor of n * n per frame
        losses = torch.logsumexp(logits, dim=-1) - torch.einsum("btij,btij->bti", target, logits)
        counts = clip.valid[:, :-1] & clip.valid[:, 1:]
        return torch.where(counts, losses.mean(-1), 0).sum() / counts.sum().clamp_min(1)

    @torch.no_grad()
    def target(self, features: Tensor) -> Tensor:
        """Shares b (t-1) n n, sum 1 over the patches of the later frame, from `features` b t n e."""
        with torch.autocast(features.device.type, enabled=False):
            unit = F.normalize(features.float(), dim=-1, eps=1e-12)
            products = unit[:, :-1] @ unit[:, 1:].transpose(-1, -2)
            negative = products < 0
            nowhere = negative.all(-1, keepdim=True)
            products.masked_fill_(negative, float("-inf")).masked_fill_(nowhere, 0)
            return torch.softmax(products / self.temperature, dim=-1)
