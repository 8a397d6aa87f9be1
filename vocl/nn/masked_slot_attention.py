"""Slot attention in two stages, from learned Gaussians: what kinds of things there are, then which ones."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

import torch
from annotated_types import Ge
from einops import rearrange
from torch import Tensor, nn

from vocl.nn.blocks import mlp

EPSILON = 1e-8


class Prepared(NamedTuple):
    """Keys and values b t n d of the patches; both stages read the same."""

    keys: Tensor
    values: Tensor


class MaskedSlotAttention(nn.Module):
    """Semantic-aware masked slot attention (SMTC, sec. 3.3): N Gaussians, two stages, shared weights.

    Stage 1 starts at the N means and lets them compete for all patches of a frame; stage 2 starts
    at P samples of each Gaussian, which compete with each other alone and read only the patches
    that `mask` gives to their Gaussian. One round, from slots s and features f:

        logits = W_q LN(s) . W_k LN(f) / sqrt(d)                 (all with bias, one head)
        w      = softmax over competitors of logits, + 1e-8, times the mask (stage 2)
        s      = s + u  or  GRU(input u, hidden s),   u = mean of W_v LN(f) weighted by w
        s      = s + MLP(LN(s))

    Logits are those of the last round, before its update. `update`: "sum" as the release, "gru" as
    the paper. `mask`: patches of semantics n are those whose "logit" (release) or "probability"
    over the N (paper) exceeds `threshold`; "soft" weights by the probability, as the first release
    did. It passes no gradient. A slot of an empty mask moves by its MLP alone.
    `straight_through`: only the last round is differentiated, and the gradient of the slots that
    enter it goes to where they started (release; the paper says nothing of it).
    `reparameterised`: the noise moves with mean and deviation (paper); in the release the samples
    give neither any gradient, zeros, so that weight decay alone reaches the deviation. Runs in
    float32 under autocast.
    """

    def __init__(
        self,
        slot_dim: int,
        num_semantics: int,
        *,
        iterations: Annotated[int, Ge(1)],
        mlp_ratio: Annotated[float, Ge(0.1)],
        update: Literal["sum", "gru"],
        mask: Literal["logit", "probability", "soft"],
        threshold: float,
        straight_through: bool,
        reparameterised: bool,
    ) -> None:
        super().__init__()
        self.iterations, self.mask_rule, self.threshold = iterations, mask, threshold
        self.straight_through, self.reparameterised = straight_through, reparameterised
        self.mean = nn.Parameter(torch.randn(num_semantics, 1, slot_dim))
        self.log_std = nn.Parameter(torch.empty(num_semantics, 1, slot_dim))
        nn.init.xavier_uniform_(self.log_std.data.unsqueeze(0))  # of 1 N 1 d: within 0.03 of 0
        self.norm_features = nn.LayerNorm(slot_dim)
        self.norm_slots = nn.LayerNorm(slot_dim)
        self.norm_mlp = nn.LayerNorm(slot_dim)
        self.to_q, self.to_k, self.to_v = (nn.Linear(slot_dim, slot_dim) for _ in range(3))
        self.gru = nn.GRUCell(slot_dim, slot_dim) if update == "gru" else None
        self.mlp = mlp([slot_dim, round(mlp_ratio * slot_dim), slot_dim])

    def prepare(self, features: Tensor) -> Prepared:
        """Keys and values of `features` b t n d."""
        with torch.autocast(features.device.type, enabled=False):
            normed = self.norm_features(features.float())
            return Prepared(self.to_k(normed), self.to_v(normed))

    def semantics(self, prepared: Prepared, iterations: int | None = None) -> tuple[Tensor, Tensor]:
        """Stage 1: slots b t N d and logits b t N n. `iterations` None: as configured."""
        b, t = prepared.keys.shape[:2]
        first = rearrange(self.mean, "n one d -> one n d").expand(b, t, -1, -1, -1)
        slots, logits = self._rounds(first, prepared, None, iterations or self.iterations)
        return slots.squeeze(2), logits.squeeze(2)

    def sample(self, noise: Tensor) -> Tensor:
        """First slots b t N P d of stage 2 from standard normal `noise` b t N P d."""
        drawn = self.mean + self.log_std.exp() * noise
        # 0 * drawn: a gradient of zeros and not of None, for which an optimizer would skip the decay.
        return drawn if self.reparameterised else drawn.detach() + 0 * drawn

    def mask(self, logits: Tensor) -> Tensor:
        """How much of each patch stage 2 may read, b t N n, from the `logits` b t N n of stage 1."""
        logits = logits.detach()
        values = logits if self.mask_rule == "logit" else logits.softmax(2)
        return values if self.mask_rule == "soft" else (values > self.threshold).to(values.dtype)

    def instances(
        self, prepared: Prepared, samples: Tensor, mask: Tensor, iterations: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Stage 2: slots b t N P d and logits b t N P n, from `samples` b t N P d and `mask` b t N n."""
        return self._rounds(samples.float(), prepared, mask, iterations or self.iterations)

    def _rounds(
        self, first: Tensor, prepared: Prepared, mask: Tensor | None, iterations: int
    ) -> tuple[Tensor, Tensor]:
        """Slots b t g p d from `first`, those of one g compete; logits b t g p n; `mask` b t g n."""
        with torch.autocast(first.device.type, enabled=False):
            slots = first
            for i in range(iterations):
                if self.straight_through and 0 < i == iterations - 1:
                    slots = slots.detach() + (first - first.detach())
                logits = self._logits(slots, prepared.keys)
                slots = self._update(slots, self._weights(logits, mask), prepared.values)
        return slots, logits

    def _logits(self, slots: Tensor, keys: Tensor) -> Tensor:
        queries = rearrange(self.to_q(self.norm_slots(slots)), "b t g p d -> b t (g p) d")
        logits = queries @ keys.transpose(-1, -2) * slots.shape[-1] ** -0.5
        return rearrange(logits, "b t (g p) n -> b t g p n", g=slots.shape[2])

    def _weights(self, logits: Tensor, mask: Tensor | None) -> Tensor:
        """Weights b t g p n, sum 1 over n (0 where the mask is empty)."""
        weights = logits.softmax(3) + EPSILON
        if mask is None:
            return weights / weights.sum(-1, keepdim=True)
        weights = weights * mask.unsqueeze(3)
        empty = 0.0 if self.mask_rule == "soft" else EPSILON
        return weights / (weights.sum(-1, keepdim=True) + empty)

    def _update(self, slots: Tensor, weights: Tensor, values: Tensor) -> Tensor:
        mean = rearrange(weights, "b t g p n -> b t (g p) n") @ values
        mean = rearrange(mean, "b t (g p) d -> b t g p d", g=slots.shape[2])
        if self.gru is None:
            slots = slots + mean
        else:
            b, t, g, _, _ = slots.shape
            rows = self.gru(*(rearrange(x, "b t g p d -> (b t g p) d") for x in (mean, slots)))
            slots = rearrange(rows, "(b t g p) d -> b t g p d", b=b, t=t, g=g)
        return slots + self.mlp(self.norm_mlp(slots))
