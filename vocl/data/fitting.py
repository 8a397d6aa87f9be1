"""From frames as they are stored to the model's input, on the host or where the model is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vocl.config.sections import Dataset
from vocl.data.augment import Photometric, check_frames
from vocl.data.transforms import Box, resized
from vocl.interface import Clip
from vocl.ops.narrow import pair
from vocl.ops.normalisation import normalised
from vocl.ops.random import generator

PART_BYTES = 64 * 2**20  # of stored frames that are fitted at a time, which bounds what a GPU holds of them


@dataclass(frozen=True)
class Unfitted:
    """A batch without its frames, and what these are to be made of.

    `parts`: frames of some clips each, in the batch's order: uint8 b t h w 3 as they are stored, cut to
    what is seen, or float b t 3 h w in [0, 1] of the model's size. `positions`: its clips in the feed.
    """

    clip: Clip
    parts: tuple[Tensor, ...]
    positions: tuple[int, ...]

    def to(self, device: torch.device | str) -> Unfitted:
        """The same on `device`; from pinned memory it comes while others are used."""
        return Unfitted(self.clip.to(device), self._moved(device), self.positions)

    def _moved(self, device: torch.device | str) -> tuple[Tensor, ...]:
        return tuple(part.to(device, non_blocking=True) for part in self.parts)

    def pin_memory(self) -> Unfitted:
        """The same in memory that a GPU can read by itself; torch's `DataLoader` calls this."""
        return Unfitted(
            self.clip.pin_memory(), tuple(part.pin_memory() for part in self.parts), self.positions
        )


class Fitting:
    """Makes the views of a batch: resized, mirrored, coloured, normalised. A clip gets the same bits whatever
    else is in the batch."""

    def __init__(self, dataset: Dataset, seed: int, photometric: Sequence[Photometric]) -> None:
        self.dataset, self.seed, self.photometric = dataset, seed, photometric

    @property
    def anywhere(self) -> bool:
        """Whether it can be done on a GPU too."""
        return all(augmentation.anywhere for augmentation in self.photometric)

    def __call__(self, batch: Unfitted) -> Clip:
        """The clip as the model takes it, where `batch` is."""
        if not batch.parts:
            return batch.clip
        fitted = [self._fitted(part) for part in batch.parts]
        frames = torch.cat(fitted) if len(fitted) > 1 else fitted[0]
        if self.dataset.flip:
            assert batch.clip.flipped is not None
            frames = torch.where(batch.clip.flipped.view(-1, 1, 1, 1, 1), frames.flip(-1), frames)
        numbers = range(1 + self.dataset.views)
        views = [
            normalised(self._coloured(frames, batch.positions, view), self.dataset.normalise)
            for view in numbers
        ]
        return replace(batch.clip, video=views[0], views=tuple(views[1:]))

    def _fitted(self, part: Tensor) -> Tensor:
        """Frames b t 3 h w in [0, 1] at the model's size."""
        if part.dtype != torch.uint8:
            return part
        whole = (0, 0, *pair(part.shape[2:4]))
        return resized(part.flatten(0, 1), whole, pair(self.dataset.size_px)).unflatten(0, part.shape[:2])

    def _coloured(self, frames: Tensor, positions: Sequence[int], view: int) -> Tensor:
        if not self.photometric:
            return frames
        clips = []
        for clip, position in zip(frames, positions, strict=True):
            seen, chance = clip, generator(self.seed, "photometric", position, view)
            for augmentation in self.photometric:
                seen = augmentation(seen, chance)
                check_frames(augmentation, seen, clip.shape)
            clips.append(seen)
        return torch.stack(clips)


def smaller_stored(box: Box, size_px: tuple[int, int]) -> bool:
    """Whether the window `box` of a frame has no more bytes as it is stored than as float32 of `size_px`."""
    return box[2] * box[3] <= size_px[0] * size_px[1] * torch.float32.itemsize


def in_parts(clips: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Frames t ... of clips as those of few tensors b t ...: of one size and kind each, and not too large."""
    parts: list[list[Tensor]] = []
    for clip in clips:
        last = parts[-1] if parts else []
        alike = last and last[0].shape == clip.shape and last[0].dtype == clip.dtype
        if alike and (clip.dtype != torch.uint8 or (len(last) + 1) * clip.nbytes <= PART_BYTES):
            last.append(clip)
        else:
            parts.append([clip])
    return tuple(torch.stack(part) for part in parts)
