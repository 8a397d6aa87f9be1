"""How far what was foretold of a clip's last frames is from what they turned out to be."""

from __future__ import annotations

from typing import ClassVar, Protocol

from torch import Tensor, nn

from vocl.interface import Clip
from vocl.losses.reconstruction import mean_over_valid
from vocl.ops.narrow import given


class Rolled(Protocol):
    """What the terms read: b m k d and b m n e of the last m frames, foretold; b t k d and b t n e of all."""

    slots: Tensor
    target: Tensor | None
    rolled: Tensor | None
    rolled_recon: Tensor | None


class RolledSlotMSE(nn.Module):
    """Mean squared error of foretold slots to the frozen encoder's (SlotFormer, sec. 3.3, L_S).

        L_S = 1 / (m k d) sum over the m foretold frames of |S^_t - S_t|^2,  mean over clips

    Slot i is compared with slot i: the encoder keeps the order. All steps weigh alike.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"rolled", "slots"})

    def forward(self, output: Rolled, clip: Clip) -> Tensor:
        """Scalar, from `output.rolled` b m k d and the last m frames of `output.slots` b t k d."""
        return _error_of_last(given(output.rolled), output.slots, clip)


class RolledFeatureMSE(nn.Module):
    """Mean squared error of features decoded from foretold slots to the backbone's.

    SlotFormer's L_I (sec. 3.3), of images there; these models rebuild features.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"rolled_recon", "target"})

    def forward(self, output: Rolled, clip: Clip) -> Tensor:
        """Scalar, from `output.rolled_recon` b m n e and the last m frames of `output.target` b t n e."""
        return _error_of_last(given(output.rolled_recon), given(output.target), clip)


def _error_of_last(told: Tensor, seen: Tensor, clip: Clip) -> Tensor:
    """Mean squared error of `told` b m ... to the last m frames of `seen` b t ..., over valid frames."""
    last = slice(-told.shape[1], None)
    error = (told.float() - seen[:, last].detach().float()).square()
    return mean_over_valid(error, clip.valid[:, last])
