"""What a tracker is shown of a finished run: overlays of held-out videos, and how alike their slots are.

The files go to <run>/media, small whatever the dataset: at most `FRAMES` frames of each video, at most
`LONGEST_PX` pixels wide or high.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vocl import assemble
from vocl.commands.pictures.overlay import OverlayWriter, blend, write_picture
from vocl.commands.pictures.sheet import SHEET
from vocl.commands.pictures.similarity import between_frames, consistency
from vocl.commands.segmented import segment, window, windows
from vocl.commands.show import split_of
from vocl.config.run_config import RunConfig
from vocl.config.sections import Dataset
from vocl.interface import Video, VideoModel
from vocl.rundir.run_dir import RunDir
from vocl.tracking import media
from vocl.tracking.media import Picture

FRAMES = 64
LONGEST_PX = 256
SMALLEST_PX = 128  # frames smaller than this are enlarged by a whole factor
FPS = 8.0


def draw(
    config: RunConfig, model: VideoModel, run: RunDir, device: torch.device, advance: Callable[[], Any]
) -> None:
    """Draw the pictures of `runtime.tracking_media` held-out videos; `advance` may raise to stop."""
    source, dataset = assemble.make_source(config, split_of(config)), assemble.make_dataset(config)
    pictures: list[Picture] = []
    model.eval()
    with torch.no_grad():
        for number in range(min(config.runtime.tracking_media, len(source))):
            pictures += _of_video(model, source[number], dataset, device, run.media, number + 1)
            advance()
    media.write(run.media, pictures)


def _of_video(
    model: VideoModel, video: Video, dataset: Dataset, device: torch.device, folder: Path, number: int
) -> Iterator[Picture]:
    """Draw one video; those of its pictures that the model has an answer for."""
    overlay = folder / f"overlay-{number}{media.VIDEO}"
    length, slots = min(video.length, FRAMES), list[Tensor | None]()
    with OverlayWriter(overlay, FPS) as writer:
        shown = windows(video, length, window(model, length))
        for found in segment(model, shown, dataset, dataset.fit, device, video.name):
            frames, labels = _fitted(found.frames, found.labels)
            coloured = blend(frames, labels, SHEET["opacity"], SHEET["outline"])
            writer.write(np.concatenate([frames, coloured], axis=2))  # side by side
            slots.append(found.slots)
    yield Picture(f"overlay/{number}", overlay, video.name)
    whole = _joined(slots)
    if whole is not None and len(whole) > 1:
        path = folder / f"similarity-{number}.png"
        write_picture(path, between_frames(whole))
        yield Picture(f"similarity/{number}", path, f"{video.name}: {consistency(whole):.3f} on the diagonal")


def _fitted(frames: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frames t h w 3 and labels t h w at a size for a page."""
    height, width = labels.shape[1:]
    longest = max(height, width)
    scale = min(LONGEST_PX / longest, max(1, SMALLEST_PX // longest))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    how = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST

    def resized(images: np.ndarray, how: Image.Resampling) -> np.ndarray:
        return np.stack([np.asarray(Image.fromarray(image).resize(size, how)) for image in images])

    return resized(frames, how), resized(labels, Image.Resampling.NEAREST)


def _joined(slots: list[Tensor | None]) -> Tensor | None:
    """The slots of all windows, t k d; None where the model gives none or their number changes."""
    given = [each for each in slots if each is not None]
    if not given or len(given) < len(slots) or len({each.shape[1:] for each in given}) > 1:
        return None
    return torch.cat(given).float().cpu()
