"""Two slot auto-encoders, one on the other: of frames, and of the slots of all frames of a video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Protocol, cast

import torch
from annotated_types import Ge
from einops import rearrange
from torch import Tensor, nn

from vocl.config.build import Part
from vocl.interface import Context, Grid
from vocl.nn.merging import MergeSimilar, alone, merge
from vocl.nn.positions import sine_cosine


class Corrector(Protocol):
    """Slots of frames or videos, each for itself, by a number of rounds that may be its own."""

    def prepare(self, inputs: Tensor) -> Tensor: ...
    def __call__(self, slots: Tensor, features: Tensor, iterations: int | None) -> tuple[Tensor, Tensor]: ...


class FrameLevel(nn.Module):
    """Slots of single frames, and a decoder that rebuilds the frame's features from them.

    initializer -> adapter and corrector on the features -> decoder. Frames know nothing of each
    other; letters m n e: m frames of any clips.
    """

    def __init__(
        self,
        feature_dim: int,
        grid: Grid,
        *,
        num_slots: Annotated[int, Ge(1)],
        slot_dim: Annotated[int, Ge(1)],
        initializer: Part[nn.Module],
        adapter: Part[nn.Module],
        corrector: Part[nn.Module],
        decoder: Part[nn.Module],
    ) -> None:
        super().__init__()
        self.num_slots, self.slot_dim, self.grid = num_slots, slot_dim, grid
        self.initializer = initializer(num_slots, slot_dim)
        self.adapter = adapter(feature_dim, slot_dim, grid)
        self.corrector = cast(Corrector, corrector(slot_dim))
        self.decoder = decoder(slot_dim, feature_dim)

    def inputs(self, tokens: Tensor) -> Tensor:
        """What slots compete for, m n d, from features m n e."""
        return self.corrector.prepare(self.adapter(tokens))

    def forward(self, inputs: Tensor, key: Tensor, iterations: int | None = None) -> tuple[Tensor, Tensor]:
        """`inputs` m n d to slots m k d and attn m k n; first slots are drawn from `key` (m)."""
        return self.corrector(self.initializer(key), inputs, iterations)

    def decode(self, slots: Tensor, context: Context) -> Tensor:
        """Features m n e of the frames whose slots are `slots` m k d."""
        return context.call(self.decoder, slots, self.grid)


@dataclass
class VideoSlots:
    """`slots` b k d of videos, those in use `active` b k; `attn` b t k n to the n slots of each frame.

    `inputs` b (t n) d: what they competed for.
    """

    slots: Tensor
    attn: Tensor
    active: Tensor
    inputs: Tensor


class VideoLevel(nn.Module):
    """Slots of a whole video from those of all its frames, and a decoder that rebuilds the latter.

    The slots of all frames are one set of t n tokens, each with a sine-cosine code of its frame's
    number, the same for all slots of a frame: encoder -> adapter and corrector -> merging of similar
    slots -> decoder. The decoder's places are (frame, index of a slot); the second axis only tells
    the elements of a frame apart. `norm_inputs`: LayerNorm before the code is added, for slots whose
    lengths drown it (the code's is sqrt(d / 2)).
    """

    def __init__(
        self,
        frame_dim: int,
        num_slots: int,
        slot_dim: int,
        *,
        norm_inputs: bool,
        encoder: Part[nn.Module],
        initializer: Part[nn.Module],
        adapter: Part[nn.Module],
        corrector: Part[nn.Module],
        merge: Part[MergeSimilar] | None,
        decoder: Part[nn.Module],
    ) -> None:
        super().__init__()
        self.norm_inputs = nn.LayerNorm(frame_dim) if norm_inputs else nn.Identity()
        self.encoder = encoder(frame_dim)
        self.initializer = initializer(num_slots, slot_dim)
        self.adapter = adapter(frame_dim, slot_dim, Grid(1, 1))
        self.corrector = cast(Corrector, corrector(slot_dim))
        self.merging = merge() if merge else None
        self.decoder = decoder(slot_dim, frame_dim)

    def forward(
        self,
        slots: Tensor,
        key: Tensor,
        num_slots: int,
        chance_to_keep: float | None = None,
        iterations: int | None = None,
    ) -> VideoSlots:
        """Slots b t n d of the frames to `num_slots` slots of the videos, drawn from `key` (b).

        `chance_to_keep`, in training alone: the chance that a video's slots are not merged.
        """
        t = slots.shape[1]
        time = sine_cosine(torch.arange(t, device=slots.device), slots.shape[-1])
        tokens = self.norm_inputs(slots) + time.unsqueeze(1)
        encoded = self.adapter(self.encoder(rearrange(tokens, "b t n d -> b (t n) d")))
        first = self.initializer(key)[:, :num_slots]
        inputs = self.corrector.prepare(encoded)
        found, attn = self.corrector(first, inputs, iterations)
        with torch.autocast(slots.device.type, enabled=False):
            merged = merge(found, None, attn, self._labels(found, key, chance_to_keep))
        attn = rearrange(merged.attn, "b k (t n) -> b t k n", t=t)
        return VideoSlots(merged.slots, attn, merged.active, inputs)

    def decode(self, video: VideoSlots, context: Context) -> Tensor:
        """Slots b t n d of the frames, as far as those of the video tell them."""
        _, t, _, n = video.attn.shape
        recon = context.call(self.decoder, video.slots, Grid(t, n), video.active)
        return rearrange(recon, "b (t n) d -> b t n d", t=t)

    def chance_to_keep(self, step: int) -> float:
        """The chance in training that a video's slots are not merged at `step`."""
        return self.merging.chance_to_keep(step) if self.merging else 1.0

    def _labels(self, slots: Tensor, key: Tensor, chance_to_keep: float | None) -> Tensor:
        if self.merging is None:
            return alone(slots)
        if chance_to_keep is None:
            return self.merging.labels(slots)
        return self.merging.labels(slots, key, chance_to_keep)


def propagate(frame_attn: Tensor, video_attn: Tensor) -> Tensor:
    """To which of the video's slots a patch belongs, by way of its frame's: b t k n, sums to 1 over k.

    P(video's slot | patch) = sum over the frame's slots s of P(video's slot | s) P(s | patch), from
    `frame_attn` b t s n and `video_attn` b t k s (Interpreter, sec. 3.2).
    """
    return video_attn.float() @ frame_attn.float()
