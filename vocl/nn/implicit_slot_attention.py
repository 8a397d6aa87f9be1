"""Slot attention as a fixed point: only its last round is differentiated."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from vocl.nn.slot_attention import SlotAttention


class ImplicitSlotAttention(SlotAttention):
    """Implicit slot attention (Chang, Griffiths and Levine, NeurIPS 2022).

    `iterations` rounds of `SlotAttention` are taken without graph, then one with it. If the slots
    have converged to s = f(s, x), this is the gradient of s by the implicit function theorem,
    (I - df/ds)^-1 df/d(x, weights), with the first term of the inverse's Neumann series alone. So
    time and memory of the backward pass do not depend on the number of rounds. The GRU's hidden
    state is the slot itself.

    The first slots then get no gradient (`prior_grad: none`, what the paper implies; a learned prior
    keeps the values it began with). `ste` passes that of the last round's slots straight through.
    """

    def __init__(
        self,
        slot_dim: int,
        input_dim: int | None = None,
        *,
        iterations: Annotated[int, Ge(0)],
        mlp_dim: Annotated[int, Ge(1)] | None,
        prior_grad: Literal["none", "ste"],
    ) -> None:
        super().__init__(
            slot_dim,
            input_dim,
            first_iterations=iterations,
            iterations=iterations,
            mlp_dim=mlp_dim,
            hidden="raw",
        )
        self.straight_through = prior_grad == "ste"

    def forward(
        self, slots: Tensor, features: Tensor, iterations: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """First slots b k d and prepared features b n e to slots b k d and attn b k n of the last round.

        `iterations`: rounds without graph; None: as configured.
        """
        with torch.autocast(features.device.type, enabled=False):
            first = slots = slots.float()
            with torch.no_grad():
                products = self._products()
                for _ in range(self.iterations if iterations is None else iterations):
                    slots, _ = self._round(slots, features, *products)
            slots = slots.detach()
            if self.straight_through:
                slots = slots + (first - first.detach())
            return self._round(slots, features, *self._products())
