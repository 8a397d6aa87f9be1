"""From frames of any size to the slots that a model sees in them, window by window."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vocl.config.sections import Dataset
from vocl.data.transforms import crop_box, pad_box, to_input
from vocl.evaluate.masks import segmenting
from vocl.interface import VOID, Clip, Grid, SegmentOptions, Video, VideoModel
from vocl.ops.masks import hard_masks
from vocl.ops.narrow import pair
from vocl.ops.random import seed_of

WINDOW = 8  # frames in memory at once
OPTIONS = SegmentOptions(cyclic=False, iterations=None, seed=0)


class Segmented(NamedTuple):
    """A window of a video: `frames` uint8 t h w 3 from frame `start` on; `labels` uint8 t h w; and what
    they were made of: soft `masks` t k n on `grid`, `slots` t k d where the model gives them."""

    start: int
    frames: np.ndarray
    labels: np.ndarray
    masks: Tensor
    grid: Grid
    slots: Tensor | None


def window(model: VideoModel, length: int) -> int:
    """Frames that `model` is given at a time of a video of `length` frames."""
    return length if model.whole_video else WINDOW


def windows(video: Video, length: int, size: int) -> Iterator[tuple[int, np.ndarray]]:
    """(first frame, uint8 t h w 3) of consecutive windows of `size` of the first `length` frames."""
    for start in range(0, length, size):
        yield start, np.ascontiguousarray(video.frames(range(start, min(start + size, length))))


def segment(
    model: VideoModel,
    shown: Iterable[tuple[int, np.ndarray]],
    dataset: Dataset,
    fit: str,
    device: torch.device,
    name: str,
) -> Iterator[Segmented]:
    """Labels (slot numbers) at the size of the source for consecutive windows `shown` (start, uint8 t h w 3).

    The state is carried from window to window. Pixels that the model does not see are `VOID`.
    """
    size_px, carry = pair(dataset.size_px), None
    key = torch.tensor([seed_of(OPTIONS.seed, "evaluation", name)])
    for start, frames in shown:
        video = to_input(torch.from_numpy(frames), size_px, fit, dataset.normalise).unsqueeze(0)
        clip = Clip(video=video, valid=torch.ones(video.shape[:2], dtype=torch.bool), key=key, names=(name,))
        found = segmenting.segment(model, clip.to(device), OPTIONS, carry)
        carry = found.carry
        assert found.masks.shape[2] <= VOID, "label maps hold at most 255 slots"
        masks, slots = found.masks[0], None if found.slots is None else found.slots[0]
        labels = labels_at_source(masks, found.grid, pair(frames.shape[1:3]), size_px, fit)
        yield Segmented(start, frames, labels, masks, found.grid, slots)


def labels_at_source(
    masks: Tensor, grid: Grid, size: tuple[int, int], size_px: tuple[int, int], fit: str
) -> np.ndarray:
    """Soft masks t k n of frames fitted to `size_px` as label maps t h w of `size`, frame by frame.

    "crop": outside of the window `VOID`; "pad": the padding is cut off.
    """
    labels = np.full((len(masks), *size), VOID, np.uint8)
    for frame, soft in zip(labels, masks, strict=True):
        soft = soft[None, None].float()
        if fit == "crop":
            top, left, height, width = crop_box(size, size_px, 0.5)
            inside = hard_masks(soft, grid, (height, width))
            frame[top : top + height, left : left + width] = inside[0, 0].cpu().numpy()
        elif fit == "pad":
            frame[:] = _without_padding(soft, grid, size, size_px)
        else:
            frame[:] = hard_masks(soft, grid, size)[0, 0].cpu().numpy()
    return labels


def _without_padding(soft: Tensor, grid: Grid, size: tuple[int, int], size_px: tuple[int, int]) -> np.ndarray:
    """The labels of the source's pixels alone, sampled where they lie in the padded input."""
    top, left, height, width = pad_box(size, size_px)
    y = (top + (torch.arange(size[0], device=soft.device) + 0.5) * height / size[0]) / size_px[0] * 2 - 1
    x = (left + (torch.arange(size[1], device=soft.device) + 0.5) * width / size[1]) / size_px[1] * 2 - 1
    points = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).unsqueeze(0)
    planes = soft[0].unflatten(-1, tuple(grid))
    sampled = F.grid_sample(planes, points, mode="bilinear", padding_mode="border", align_corners=False)
    return sampled[0].max(dim=0).indices.cpu().numpy()  # several times as fast as argmax
