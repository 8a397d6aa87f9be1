"""Object dynamics on slots that are learned already: they are frozen, and what follows them is foretold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor, nn

from vocl.config.build import Part
from vocl.errors import UserError
from vocl.interface import Backbone, Clip, Output
from vocl.models.recurrent import Recurrent
from vocl.ops.narrow import given


@dataclass
class RolledOutput(Output):
    """An output with what was foretold of the clip's last m frames from those before.

    `slots`, `attn`, `target` are of all t frames, and of the encoder: the truth that `rolled` is to meet.
    """

    rolled: Tensor | None = None  # b m k d
    rolled_recon: Tensor | None = None  # b m n e   decoded from `rolled`


class Dynamics(Recurrent):
    """`Recurrent` with its weights frozen, and a `rollout` that learns how its slots go on.

    A second stage: `warm_start={run: RUN, take: ["*"]}` brings the slots, of a run whose model has the
    same parts. In training, a clip's slots come without gradient; `rollout` sees those of its first
    `burn_in` frames and tells those of the rest, each from what it told before. Scored by
    `eval=[dynamics]`; `segment` and its masks are those of the first stage.

    The idea is SlotFormer's (Wu et al., ICLR 2023). SlotContrast uses it on its frozen slots, without
    released code, so numbers of frames are ours. Other than in SlotFormer's release, slots are not
    written to disk first but encoded anew for each clip, so that mirrored and reversed clips are trained
    on too.

    `reconstruct`: also decode what is told, for a loss on features (SlotFormer's L_I, there on images).
    `num_frames`: of a training clip; one that leaves no frame to tell is refused.
    """

    provides: ClassVar[frozenset[str]] = frozenset(
        {"slots", "attn", "features", "target", "keys", "rolled", "rolled_recon"}
    )
    optional: ClassVar[dict[str, str]] = {"rolled_recon": "reconstruct"}

    def __init__(
        self,
        backbone: Backbone,
        frame_px: tuple[int, int],
        *,
        slot_dim: Annotated[int, Ge(1)],
        burn_in: Annotated[int, Ge(1)],
        num_frames: Annotated[int, Ge(2)],
        reconstruct: bool,
        rollout: Part[nn.Module],
        **rest: Any,
    ) -> None:
        super().__init__(backbone, frame_px, slot_dim=slot_dim, **rest)
        if num_frames <= burn_in:
            raise UserError(
                f"dataset.clip_frames={num_frames}: leaves nothing to foretell after model.burn_in={burn_in}"
            )
        self.burn_in, self.reconstruct = burn_in, reconstruct
        self.requires_grad_(False)
        self.rollout = rollout(slot_dim, burn_in)

    def forward(self, clip: Clip) -> RolledOutput:
        with torch.no_grad():
            features = self.encode(clip)
            context = self._training_context(clip, features)
            swept = self._sweep(context, self._first(context), None)
        rolled = self.rollout(swept.slots[:, : self.burn_in], clip.valid.shape[1] - self.burn_in)
        recon = self._decode_alone(rolled, reconstruct=True).recon if self.reconstruct else None
        return RolledOutput(
            slots=swept.slots,
            attn=swept.attn,
            grid=given(context.grid),
            features=features.tokens,
            target=context.target,
            keys=features.keys,
            rolled=rolled,
            rolled_recon=recon,
        )

    def future(self, slots: Tensor, horizon: int) -> Tensor:
        """What `rollout` tells; it is to see as many frames as in training."""
        if slots.shape[1] < self.burn_in:
            raise UserError(
                f"burn_in={slots.shape[1]}: the model foretells from {self.burn_in} frames (model.burn_in); "
                "choose as many or more"
            )
        return self.rollout(slots, horizon)
