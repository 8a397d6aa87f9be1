"""Contrast between the slots of neighbouring frames (SlotContrast)."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt
from einops import rearrange, repeat
from torch import Tensor, nn

from vocl.dist import gather_clips, rank
from vocl.errors import UserError
from vocl.interface import Clip, Output


class SlotSlotContrast(nn.Module):
    """Slot-slot contrast L_ssc (Manasyan et al., CVPR 2025).

    With slots normalised to length 1 and the k slots of all clips of a group laid side by side
    (S of them): logits[i, j] = <slot i of frame t, slot j of frame t+1> / temperature; each slot j
    of the LATER frame is to pick itself among all slots i of the EARLIER frame; mean over j and t.

    The paper writes the anchor as the earlier slot and leaves the positive out of the denominator;
    the released code does as above, and so do we. `group`: clips per softmax, consecutive in the
    global batch; 1 compares within each video, null over the whole global batch, gathered over
    ranks (the release compared per GPU only, so its set of negatives depended on the GPU count).
    """

    needs: ClassVar[frozenset[str]] = frozenset({"slots"})
    min_frames: ClassVar[int] = 2
    divides_batch: ClassVar[str] = "group"

    def __init__(self, *, temperature: Annotated[float, Gt(0)], group: Annotated[int, Ge(1)] | None) -> None:
        super().__init__()
        self.temperature = temperature
        self.group = group

    def forward(self, output: Output, clip: Clip) -> Tensor:
        """Scalar, from `output.slots` b t k d."""
        slots = F.normalize(output.slots.float(), dim=-1, eps=1e-12)
        if slots.shape[1] < 2:
            raise UserError("loss.slot_contrast: compares neighbouring frames, but dataset.clip_frames=1")
        local = len(slots)
        everything = slots if self.group and local % self.group == 0 else gather_clips(slots)
        group = self.group or len(everything)
        if len(everything) % group:
            raise UserError(
                f"loss.slot_contrast.group={group}: does not divide train.batch={len(everything)}; "
                "choose a divisor, 1 (within each video) or null (the whole batch)"
            )
        losses = self._per_slot(everything, group)
        # Every rank computes the same table and keeps the rows of its own clips: the mean over
        # ranks is then the loss of the global batch, and so is the mean of the gradients.
        start = rank() * local if len(everything) > local else 0
        return losses[start : start + local].mean()

    def _per_slot(self, slots: Tensor, group: int) -> Tensor:
        """Cross-entropies b (t-1) k."""
        t, k = slots.shape[1:3]
        slots = rearrange(slots, "(m g) t k d -> m t (g k) d", g=group)
        logits = slots[:, 1:] @ slots[:, :-1].transpose(-1, -2) / self.temperature  # later j, earlier i
        target = torch.arange(group * k, device=slots.device)
        target = repeat(target, "s -> (m t s)", m=len(slots), t=t - 1)
        losses = F.cross_entropy(rearrange(logits, "m t j i -> (m t j) i"), target, reduction="none")
        return rearrange(losses, "(m t g k) -> (m g) t k", m=len(slots), t=t - 1, g=group)
