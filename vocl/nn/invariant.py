"""Slot attention in each slot's own frame of reference: invariant to where a thing is and how large."""

from __future__ import annotations

from typing import Annotated, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Lt
from einops import rearrange, repeat
from torch import Tensor, nn

from vocl.interface import Grid
from vocl.nn.blocks import he_mlp, linears, mlp
from vocl.ops.random import dropout

EPSILON = 1e-8
REACH = 5.0  # a slot's own coordinates are in units of this many standard deviations


class Bound(NamedTuple):
    """Slots of frames: `slots` b t k d; `attn` b t k n sums to 1 over k, `weights` over n."""

    slots: Tensor
    attn: Tensor
    weights: Tensor


class Spatial(Protocol):
    """What gives the slots of single frames a place, as `InvariantSlotAttention` does."""

    grid: Tensor

    def coordinates(self, keep: Tensor) -> Tensor: ...
    def bounded(self, position: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]: ...
    def __call__(
        self,
        slots: Tensor,
        features: Tensor,
        coordinates: Tensor,
        iterations: int | None = None,
        key: Tensor | None = None,
    ) -> Bound: ...


def centred_grid(grid: Grid) -> Tensor:
    """Coordinates n 2 of the patches, (x, y), each from -1 to 1, row by row."""
    y, x = torch.meshgrid(
        torch.linspace(-1, 1, grid.rows), torch.linspace(-1, 1, grid.columns), indexing="ij"
    )
    return rearrange(torch.stack([x, y]), "two r s -> (r s) two")


def relative(coordinates: Tensor, position: Tensor, scale: Tensor) -> Tensor:
    """(coordinates - position) / (5 scale): `coordinates` m n 2, the others m k 2; m k n 2."""
    return (coordinates.unsqueeze(-3) - position.unsqueeze(-2)) / (REACH * scale.unsqueeze(-2))


def pose(weights: Tensor, coordinates: Tensor) -> tuple[Tensor, Tensor]:
    """Position and scale m k 2 of slots: mean and standard deviation of `coordinates` m n 2, per axis.

    `weights` m k n sum to 1 over n.
    """
    position = weights @ coordinates
    offset = coordinates.unsqueeze(-3) - position.unsqueeze(-2)
    return position, (weights.unsqueeze(-1) * offset.square()).sum(-2).sqrt()


class InvariantSlotAttention(nn.Module):
    """Translation- and scale-invariant slot attention (Biza et al., ICML 2023), as SOLV uses it.

    Slot k has a position p and a scale s, learned at first. A patch with features x at g has, for
    this slot, relative coordinates r = (g - p) / (5 s), and

        key   = f(W_k x + W_g r + b_g)        f: linear, ReLU, linear, shared by keys and values
        value = f(W_v x + W_g r + b_g)
        attn  = softmax over k of  W_q LN(slot) . key / sqrt(d);   w = attn + 1e-8, normalised over n
        p, s  = mean and standard deviation of g under w
        slot  = GRU(input sum over n of w value, hidden slot),  then  slot + dropout(MLP(LN(slot)))

    The rounds are followed by one more that refreshes attn, p and s, but not the slots; the result
    is W_o LN(slot). Gradients flow through every round. The coordinates g of the patches are learned
    too (`grid`, n 2). `min_scale`: lower bound of s, null for none as in the release. Runs in
    float32 under autocast.

    Computed by exact algebra: f's layers are linear around one ReLU, so the first meets features and
    coordinates apart, and the second acts on queries and on the k weighted means. How weights
    begin is our choice where SOLV's is not known: Xavier's rule for W_q, W_k, W_v, He's for f.
    """

    def __init__(
        self,
        num_slots: int,
        slot_dim: int,
        grid: Grid,
        *,
        iterations: Annotated[int, Ge(1)],
        mlp_dim: Annotated[int, Ge(1)],
        dropout: Annotated[float, Ge(0), Lt(1)],
        min_scale: Annotated[float, Gt(0)] | None,
    ) -> None:
        super().__init__()
        self.iterations, self.dropout, self.min_scale = iterations, dropout, min_scale
        self.position = nn.Parameter(torch.randn(num_slots, 2) * 0.02)
        self.scale = nn.Parameter(torch.randn(num_slots, 2) * 0.02)
        self.grid = nn.Parameter(centred_grid(grid))
        self.norm_features = nn.LayerNorm(slot_dim)
        self.norm_slots = nn.LayerNorm(slot_dim)
        self.norm_mlp = nn.LayerNorm(slot_dim)
        self.to_q, self.to_k, self.to_v = (nn.Linear(slot_dim, slot_dim, bias=False) for _ in range(3))
        for projection in (self.to_q, self.to_k, self.to_v):
            nn.init.xavier_uniform_(projection.weight)
        self.relate = nn.Linear(2, slot_dim)
        self.shared = he_mlp([slot_dim, slot_dim, slot_dim])
        self.gru = nn.GRUCell(slot_dim, slot_dim)
        self.mlp = mlp([slot_dim, mlp_dim, slot_dim])
        self.to_slots = nn.Linear(slot_dim, slot_dim)

    def coordinates(self, keep: Tensor) -> Tensor:
        """Coordinates b t m 2 of the patches `keep` b t m."""
        return self.grid[keep]

    def bounded(self, position: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """The pose with its scale bounded by `min_scale`."""
        return position, scale if self.min_scale is None else scale.clamp(min=self.min_scale)

    def forward(
        self,
        slots: Tensor,
        features: Tensor,
        coordinates: Tensor,
        iterations: int | None = None,
        key: Tensor | None = None,
    ) -> Bound:
        """First `slots` b k d; `features` b t n d at `coordinates` b t n 2; each frame for itself.

        `iterations` None: as configured. `key` (b): draws the dropout; None for none.
        """
        b, t = features.shape[:2]
        with torch.autocast(features.device.type, enabled=False):
            slots = repeat(slots.float(), "b k d -> (b t) k d", t=t)
            features = self.norm_features(rearrange(features.float(), "b t n d -> (b t) n d"))
            found = self._rounds(
                slots,
                features,
                rearrange(coordinates, "b t n two -> (b t) n two"),
                iterations or self.iterations,
                key,
            )
        return Bound(*(rearrange(x, "(b t) ... -> b t ...", b=b) for x in found))

    def _rounds(
        self, slots: Tensor, features: Tensor, coordinates: Tensor, iterations: int, key: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Output slots m k d, attn and weights m k n of the last round."""
        first, second = linears(self.shared)
        for_keys, for_values = (features @ (first.weight @ to.weight).t() for to in (self.to_k, self.to_v))
        from_place, bias = first.weight @ self.relate.weight, first(self.relate.bias)
        position, scale = (
            p[: slots.shape[1]].expand(len(slots), -1, -1) for p in (self.position, self.scale)
        )
        for i in range(iterations + 1):
            at = F.linear(relative(coordinates, *self.bounded(position, scale)), from_place, bias)
            normed = self.norm_slots(slots)
            attn = self._compete(normed, F.relu(at + for_keys.unsqueeze(1)))
            weights = attn + EPSILON
            weights = weights / weights.sum(-1, keepdim=True)
            position, scale = pose(weights, coordinates)
            if i < iterations:
                hidden = F.relu(at + for_values.unsqueeze(1))
                slots = self._update(slots, second(torch.einsum("mkn,mknd->mkd", weights, hidden)), i, key)
        return self.to_slots(normed), attn, weights

    def _compete(self, normed: Tensor, hidden: Tensor) -> Tensor:
        """Softmax over k of queries times keys, from LN(slots) m k d and the keys' hidden m k n d."""
        _, second = linears(self.shared)
        query = self.to_q(normed) * normed.shape[-1] ** -0.5
        logits = torch.einsum("mkd,mknd->mkn", query @ second.weight, hidden)
        return torch.softmax(logits + (query @ second.bias).unsqueeze(-1), dim=1)

    def _update(self, slots: Tensor, mean: Tensor, i: int, key: Tensor | None) -> Tensor:
        rows = (rearrange(x, "m k d -> (m k) d") for x in (mean, slots))
        slots = rearrange(self.gru(*rows), "(m k) d -> m k d", m=len(slots))
        return slots + dropout(self.mlp(self.norm_mlp(slots)), key, f"slots.{i}", self.dropout)
