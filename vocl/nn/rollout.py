"""Slots of the frames to come, foretold from those of the frames before, one frame after the other."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from einops import rearrange
from torch import Tensor, nn

from vocl.nn.positions import sine_cosine
from vocl.nn.transformers import TransformerEncoder


class TransformerRollout(nn.Module):
    """A transformer over the slots of the last w frames tells those of the next one (SlotFormer).

    Wu et al., "SlotFormer: Unsupervised Visual Dynamics Simulation with Object-Centric Models" (ICLR 2023),
    sec. 3.2. For the slots S_t (k d) of the frames t = T - w + 1 .. T:

        G_t     = S_t W_in + P_t       k dim   one code P_t of time for all slots of a frame
        U       = encoder([G_t ...])   all slots of the w frames attend to each other
        S_(T+1) = U_T W_out            k d     from the outputs of the newest frame

    S_(T+1) then takes the place of the oldest frame, and so on: no frame to come is ever read. There is no
    code of the slot, so slots that are given in another order are foretold in that order.

    As in the release, P is a sine-cosine code that counts back from the newest frame. Ours: the encoder is
    vocl's (GELU, a LayerNorm at its end; the release: ReLU, none); no dropout (the release: PyTorch's 0.1);
    fewer than w frames may be given; `residual`: W_out tells the change since the newest frame, S_(T+1) = S_T
    + U_T W_out, and starts as zeros, so that training begins at slots that stay as they are.
    """

    def __init__(
        self,
        slot_dim: int,
        window: int,
        *,
        dim: Annotated[int, Ge(2)],
        num_blocks: Annotated[int, Ge(1)],
        num_heads: Annotated[int, Ge(1)],
        ffn_dim: Annotated[int, Ge(1)],
        residual: bool,
    ) -> None:
        super().__init__()
        self.window, self.residual = window, residual
        self.project = nn.Linear(slot_dim, dim)
        self.encoder = TransformerEncoder(dim, num_blocks=num_blocks, num_heads=num_heads, ffn_dim=ffn_dim)
        self.to_slots = nn.Linear(dim, slot_dim)
        if residual:
            nn.init.zeros_(self.to_slots.weight)
            nn.init.zeros_(self.to_slots.bias)

    def forward(self, slots: Tensor, horizon: int) -> Tensor:
        """The next `horizon` frames' slots, b m k d, from those of the frames before, b t k d."""
        seen = list(slots[:, -self.window :].unbind(1))
        found: list[Tensor] = []
        for _ in range(horizon):
            found.append(self._next(torch.stack(seen, dim=1)))
            seen = [*seen, found[-1]][-self.window :]
        return torch.stack(found, dim=1)

    def _next(self, slots: Tensor) -> Tensor:
        """Slots b k d of the frame after those of `slots` b t k d."""
        t, k = slots.shape[1:3]
        age = torch.arange(t - 1, -1, -1, device=slots.device)
        tokens = self.project(slots) + sine_cosine(age, self.project.out_features).unsqueeze(1)
        encoded = self.encoder(rearrange(tokens, "b t k d -> b (t k) d"))
        told = self.to_slots(encoded[:, -k:]).to(slots.dtype)
        return slots[:, -1] + told if self.residual else told
