"""Slot attention (Locatello et al., NeurIPS 2020): slots compete for the patches of a frame."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Ge
from einops import rearrange
from torch import Tensor, nn

from vocl.nn.blocks import mlp
from vocl.nn.execution.compiled import region

EPSILON = 1e-8  # keeps the weighted mean defined for a slot that wins nothing


class SlotAttention(nn.Module):
    """The corrector: refines the slots of a frame by a few rounds of competition.

    One round, from slots s (b k d) and the frame's normalised features f (b n d):

        s~   = LayerNorm(s)
        attn = softmax over k of  (W_q s~) . (W_k f) / sqrt(d)
        u    = mean over n of W_v f, weighted by attn + 1e-8
        s    = GRU(input u, hidden s~),   then   s + MLP(LayerNorm(s))  if `mlp_dim` is set

    `hidden: normalised` feeds the GRU the LayerNormed slot, as SlotContrast's release does;
    `raw` feeds it the slot itself, as the original paper and SAVi do. Gradients flow through every
    round. Runs in float32 under autocast.

    `input_dim`: width of the features, null for the slots'.

    Computed by exact algebra without the keys and values of the n patches: a logit is
    (W_k^T W_q s~) . f, and W_v acts on the k weighted means of f; what enters the GRU linearly is
    multiplied to one matrix, W_ih W_v.
    """

    def __init__(
        self,
        slot_dim: int,
        input_dim: int | None = None,
        *,
        first_iterations: Annotated[int, Ge(1)],
        iterations: Annotated[int, Ge(1)],
        mlp_dim: Annotated[int, Ge(1)] | None,
        hidden: Literal["normalised", "raw"],
    ) -> None:
        super().__init__()
        self.first_iterations = first_iterations
        self.iterations = iterations
        self.normalised_hidden = hidden == "normalised"
        self.scale = slot_dim**-0.5
        input_dim = input_dim or slot_dim
        self.norm_features = nn.LayerNorm(input_dim)
        self.norm_slots = nn.LayerNorm(slot_dim)
        self.to_q = nn.Linear(slot_dim, slot_dim, bias=False)
        self.to_k = nn.Linear(input_dim, slot_dim, bias=False)
        self.to_v = nn.Linear(input_dim, slot_dim, bias=False)
        self.gru = nn.GRUCell(slot_dim, slot_dim)
        self.norm_mlp = nn.LayerNorm(slot_dim) if mlp_dim else None
        self.mlp = mlp([slot_dim, mlp_dim, slot_dim]) if mlp_dim else None

    def prepare(self, inputs: Tensor) -> Tensor:
        """Normalised features b t n d of all frames at once, in float32, from `inputs` b t n d."""
        with torch.autocast(inputs.device.type, enabled=False):
            return self.norm_features(inputs.float())

    @region
    def forward(self, slots: Tensor, features: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
        """Slots b k d and one frame's prepared features b n d to the new slots and attn b k n.

        `attn` is that of the last round: it sums to 1 over k, and was computed from the slots
        before their last update.
        """
        with torch.autocast(slots.device.type, enabled=False):
            slots = slots.float()
            products = self._products()
            for _ in range(iterations):
                slots, attn = self._round(slots, features, *products)
        return slots, attn

    def _products(self) -> tuple[Tensor, Tensor]:
        """From a normalised slot and a feature to a logit, and from a mean feature to the GRU's gates."""
        to_logits = (self.to_q.weight.t() @ self.to_k.weight) * self.scale
        return to_logits, self.gru.weight_ih @ self.to_v.weight

    def _round(
        self, slots: Tensor, features: Tensor, to_logits: Tensor, to_gates: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One round: the new slots b k d, and the attn b k n of the old ones."""
        normed = self.norm_slots(slots)
        attn = torch.softmax(normed @ to_logits @ features.transpose(1, 2), dim=1)
        weights = attn + EPSILON
        mean = (weights @ features) / weights.sum(-1, keepdim=True)
        return self._update(mean, normed if self.normalised_hidden else slots, to_gates), attn

    def _update(self, mean: Tensor, hidden: Tensor, to_gates: Tensor) -> Tensor:
        mean_rows, hidden_rows = (rearrange(x, "b k d -> (b k) d") for x in (mean, hidden))
        gru = self.gru
        slots = torch.gru_cell(mean_rows, hidden_rows, to_gates, gru.weight_hh, gru.bias_ih, gru.bias_hh)
        slots = rearrange(slots, "(b k) d -> b k d", b=len(hidden))
        if self.mlp is None or self.norm_mlp is None:
            return slots
        return slots + self.mlp(self.norm_mlp(slots))
