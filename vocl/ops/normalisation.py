"""Colours less their mean and over their deviation, as pretrained networks take them, and back."""

from __future__ import annotations

import torch
from torch import Tensor

STATISTICS = {  # mean and standard deviation of red, green, blue
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "kinetics": ((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)),
}


def normalised(video: Tensor, normalise: str) -> Tensor:
    """`video` ... 3 h w in [0, 1], less the mean and over the deviation of `normalise`."""
    mean, std = _statistics(normalise, video)
    return (video - mean).div_(std)


def to_rgb(video: Tensor, normalise: str) -> Tensor:
    """Undo the normalisation: `video` ... c h w to [0, 1]."""
    mean, std = _statistics(normalise, video)
    return video * std + mean


def _statistics(normalise: str, video: Tensor) -> tuple[Tensor, Tensor]:
    mean, std = (
        # filled where the video is: a copy from the host would wait for all that a GPU has to do
        torch.stack([torch.full((1, 1), value, device=video.device) for value in values])
        for values in STATISTICS[normalise]
    )
    return mean, std
