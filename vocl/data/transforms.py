"""From stored frames to the model's input, and back for pictures. Exactly the released recipe by default."""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from vocl.ops.narrow import pair
from vocl.ops.normalisation import normalised

Box = tuple[int, int, int, int]  # top, left, height, width in pixels


def to_input(
    frames: Tensor, size_px: tuple[int, int], fit: str, normalise: str, window: float = 0.5
) -> Tensor:
    """Frames uint8 t h w 3 to the model's input float t 3 h w.

    Bicubic without antialiasing, clamped to [0, 1], then normalised, as in SlotContrast's release.
    `fit`: "stretch" to the size; "crop" a window of the size's shape, at the share `window` of the
    free range along the longer side (0.5: the centre; cut before resizing, where the release's training
    resizes first, a difference of interpolation at most); "pad" to that shape with the mean colour.
    """
    size = pair(frames.shape[1:3])
    top, left, height, width = pad_box(size, size_px) if fit == "pad" else (0, 0, *size_px)
    video = normalised(resized(frames, seen_box(size, size_px, fit, window), (height, width)), normalise)
    if (height, width) == size_px:
        return video
    return F.pad(video, (left, size_px[1] - width - left, top, size_px[0] - height - top))


def resized(frames: Tensor, box: Box, size_px: tuple[int, int]) -> Tensor:
    """The window `box` of frames uint8 t h w 3, as float t 3 h w in [0, 1] of `size_px`.

    The bytes are cut and laid out by channels first, and then worked on in place: the same values, and less
    traffic to memory.
    """
    top, left, height, width = box
    window = rearrange(frames[:, top : top + height, left : left + width], "t h w c -> t c h w")
    video = window.contiguous().float().div_(255)
    if tuple(video.shape[-2:]) != tuple(size_px):
        video = F.interpolate(video, size=list(size_px), mode="bicubic", align_corners=False).clamp_(0, 1)
    return video


def labels_to_input(labels: Tensor, size_px: tuple[int, int], fit: str, resize: bool) -> Tensor:
    """Label maps t h w cut to what the model sees at test (the centre window of "crop").

    `resize`: also to the input's size, by nearest-exact.
    """
    if fit == "crop":
        top, left, height, width = crop_box(pair(labels.shape[-2:]), size_px, 0.5)
        labels = labels[:, top : top + height, left : left + width]
    if resize and tuple(labels.shape[-2:]) != tuple(size_px):
        labels = (
            F.interpolate(labels.unsqueeze(1).float(), size=size_px, mode="nearest-exact")
            .squeeze(1)
            .to(labels.dtype)
        )
    return labels


def seen_box(size: tuple[int, int], shape: tuple[int, int], fit: str, window: float) -> Box:
    """What the model sees of a frame of `size`: a window of the aspect of `shape` for "crop", else all."""
    return crop_box(size, shape, window) if fit == "crop" else (0, 0, *size)


def crop_box(size: tuple[int, int], shape: tuple[int, int], window: float) -> Box:
    """The largest window (top, left, height, width) of the aspect of `shape` inside `size`."""
    height, width = size
    if height * shape[1] > width * shape[0]:
        inner = max(1, round(width * shape[0] / shape[1]))
        return round((height - inner) * window), 0, inner, width
    inner = max(1, round(height * shape[1] / shape[0]))
    return 0, round((width - inner) * window), height, inner


def pad_box(size: tuple[int, int], shape: tuple[int, int]) -> Box:
    """Where (top, left, height, width) a frame of `size` lies, centred, in `shape` once it fits inside."""
    scale = min(shape[0] / size[0], shape[1] / size[1])
    height, width = (min(shape[i], max(1, round(size[i] * scale))) for i in (0, 1))
    return (shape[0] - height) // 2, (shape[1] - width) // 2, height, width
