"""Where the slots of the first frame come from."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from vocl.errors import UserError
from vocl.interface import Context
from vocl.ops.random import normal


class Learned(nn.Module):
    """One learned set of slots, the same for every video (SlotContrast).

    Drawn from N(0, 1/d); training and test are identical and deterministic.
    """

    learned: ClassVar[bool] = True  # each slot is a row of `slots`, which events may fill

    def __init__(self, num_slots: int, slot_dim: int) -> None:
        super().__init__()
        self.slots = nn.Parameter(torch.randn(1, num_slots, slot_dim) * slot_dim**-0.5)

    def forward(self, key: Tensor) -> Tensor:
        """Slots b k d for clips with keys `key` (b)."""
        return self.slots.expand(len(key), -1, -1)


class Queries(Learned):
    """As `Learned`, drawn by Xavier's uniform rule over the table k d (SOLV)."""

    def __init__(self, num_slots: int, slot_dim: int) -> None:
        super().__init__(num_slots, slot_dim)
        nn.init.xavier_uniform_(self.slots[0])


class Gaussian(nn.Module):
    """Slots sampled from one learned Gaussian that all slots share (Slot Attention, VideoSAUR).

    Fresh noise for each video, also at test; drawn from the clip's key, so that it is reproducible.
    """

    def __init__(self, num_slots: int, slot_dim: int) -> None:
        super().__init__()
        self.num_slots = num_slots
        self.mean = nn.Parameter(torch.zeros(1, 1, slot_dim))
        self.log_std = nn.Parameter(torch.full((1, 1, slot_dim), math.log(slot_dim**-0.5)))

    def forward(self, key: Tensor) -> Tensor:
        """Slots b k d for clips with keys `key` (b)."""
        noise = normal(key, "slots", (self.num_slots, self.mean.shape[-1]))
        return self.mean + noise * self.log_std.exp()


class FromBoxes(nn.Module):
    """Slots out of the boxes of a video's first frame (conditional SAVi, Kipf et al., ICLR 2022).

    A box, its corners as shares of a frame of `frame_px` = [height, width], goes through an MLP with
    one hidden layer. Slot 0 is the background's, whose box is the whole frame; slot i > 0 that of
    the i-th box that is visible, in the order of the clip's boxes; boxes beyond the number of slots
    are left out, and slots beyond that of boxes have an empty one. The background's and the empty
    box are our choice.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"clip.boxes"})
    side: Tensor

    def __init__(
        self, num_slots: int, slot_dim: int, *, hidden_dim: Annotated[int, Ge(1)], frame_px: list[int]
    ) -> None:
        super().__init__()
        self.num_slots = num_slots
        height, width = frame_px
        self.register_buffer("side", torch.tensor([width, height] * 2).float(), persistent=False)
        self.mlp = nn.Sequential(nn.Linear(4, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, slot_dim))

    def forward(self, key: Tensor, *, context: Context) -> Tensor:
        """Slots b k d from `context.clip.boxes` b t p 5."""
        if context.clip.boxes is None:
            raise UserError("model.initializer: needs boxes of the first frame, and this video has none")
        first = context.clip.boxes[:, 0]
        order = (first[..., 4] == 0).int().argsort(dim=1, stable=True)  # visible ones first
        boxes = first[..., :4] / self.side * first[..., 4:]
        boxes = boxes.gather(1, order.unsqueeze(-1).expand(-1, -1, 4))[:, : self.num_slots - 1]
        boxes = F.pad(boxes, (0, 0, 1, self.num_slots - 1 - boxes.shape[1]))
        boxes[:, 0, 2:] = 1.0  # the whole frame
        return self.mlp(boxes)


class XavierGaussian(Gaussian):
    """As `Gaussian`, its mean and log-deviation drawn by Xavier's uniform rule: deviations near 1.

    Locatello et al.'s own initialisation.
    """

    def __init__(self, num_slots: int, slot_dim: int) -> None:
        super().__init__(num_slots, slot_dim)
        nn.init.xavier_uniform_(self.mean)
        nn.init.xavier_uniform_(self.log_std)
