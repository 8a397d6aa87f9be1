"""The picture of a probe: a few frames of a video, the slots in them, and the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from vocl.commands.pictures.overlay import like_truth, spaced, write_picture
from vocl.commands.pictures.sheet import SHEET, picture
from vocl.commands.segmented import segment, window, windows
from vocl.config.sections import Dataset
from vocl.data.truth import Truth
from vocl.evaluate.guard import frozen
from vocl.interface import Video, VideoModel

FRAMES = 24


def draw(
    model: VideoModel,
    video: Video,
    truth: Any,
    dataset: Dataset,
    device: torch.device,
    path: Path,
    title: str,
) -> None:
    """Draw the first frames of `video` into `path`, its slots in the colours of their true objects."""
    length = min(video.length, FRAMES)
    parts = windows(video, length, window(model, length))
    with frozen(model):
        found = segment(model, parts, dataset, dataset.fit, device, video.name)
        labels = np.concatenate([part.labels for part in found])
    true = truth.labels("paint")[0][:length] if isinstance(truth, Truth) else None
    if true is not None:
        labels = like_truth(labels, true)
    shown = spaced(length, SHEET["columns"])
    frames = np.ascontiguousarray(video.frames(shown))
    true = None if true is None else true[shown]
    write_picture(path, picture(frames, {"slots": labels[shown]}, true, shown, title))
