"""A dataset to time the store with, no benchmark: folders of JPEG frames that compress as photographs do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from vocl.data.convert.folders import Folders
from vocl.data.store.prepare import Settings, prepare
from vocl.stop import StopFlag

CONVERTER = {"binary": False, "unmatched": "refuse", "min_frames": None, "partial": True}


def make_folders(
    root: Path, videos: int, length: int, size: tuple[int, int], masks: bool, kind: str = "jpg"
) -> None:
    """`root`/train/<video>/{frames,masks}: a texture of all scales that moves, 0.15 bytes a pixel as JPEG."""
    rng = np.random.default_rng(0)
    height, width = size
    for video in range(videos):
        picture = _texture(rng, (height + length, width + 2 * length))
        frames, truth = (root / "train" / f"{video:03d}" / name for name in ("frames", "masks"))
        frames.mkdir(parents=True)
        for t in range(length):
            frame = Image.fromarray(picture[t : t + height, 2 * t : 2 * t + width])
            frame.save(frames / f"{t:05d}.{kind}", quality=90)
            if masks:
                truth.mkdir(exist_ok=True)
                Image.fromarray((np.asarray(frame)[..., 0] > 150).astype(np.uint8)).save(
                    truth / f"{t:05d}.png"
                )


def make_store(source: Path, out: Path, workers: int, shard_mb: int) -> None:
    """The store of such folders."""
    how = Settings(workers=workers, shard_mb=shard_mb, skip_damaged=False)
    prepare(Folders(source, **CONVERTER), CONVERTER, out.name, out, how, StopFlag())


def drop_from_cache(path: Path) -> None:
    """Have the kernel forget a file's pages, so that the next reading meets the disk."""
    import os

    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _texture(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Noise of every scale, h w 3 uint8, the coarse ones strongest."""
    total = np.zeros((*size, 3), np.float32)
    for cells in (4, 16, 64, 256):
        coarse = rng.random((cells, cells, 3), np.float32)
        for channel in range(3):
            shown = Image.fromarray(coarse[..., channel]).resize(size[::-1], Image.Resampling.BICUBIC)
            total[..., channel] += np.asarray(shown) / np.log2(cells)
    return np.clip(255 * total / total.max(), 0, 255).astype(np.uint8)
