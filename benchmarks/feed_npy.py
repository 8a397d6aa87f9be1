"""Random clips of 4 frames from a store, against reading a video's whole .npy from a tar for each.

Run from the repository root: `python benchmarks/feed_npy.py`. 4 videos of 98 frames of 854 x 480, in all as
many as 4 of DAVIS: 6 MB of JPEG or 120 MB of pixels each. The baseline is what the releases of the field do
(webdataset): the member's bytes out of the tar, an array of them, a slice of that. Sets of pixels (26 to
128 GB as published) do not stay in memory, so both files are dropped from the page cache before a
reading; with both in it, which flatters the baseline, it is `warm_ratio`.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import stores

from vocl.data.store.source import Stored

VIDEOS, LENGTH, SIZE, CLIP, ROUNDS = 4, 98, (480, 854), 4, 8


def timed(work: Callable[[], np.ndarray]) -> float:
    start = time.perf_counter()
    assert work().shape == (CLIP, *SIZE, 3)
    return time.perf_counter() - start


def write_tar(path: Path, video: np.ndarray) -> None:
    """A tar with a video's pixels as webdataset keeps them."""
    buffer = io.BytesIO()
    np.save(buffer, video)
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo("0.video.npy")
        info.size = buffer.tell()
        buffer.seek(0)
        tar.addfile(info, buffer)


def read_tar(path: Path, clip: range) -> np.ndarray:
    """Frames of a clip by way of the whole video."""
    with tarfile.open(path, "r:") as tar:
        data = tar.extractfile("0.video.npy")
        assert data is not None
        return np.load(io.BytesIO(data.read()))[clip.start : clip.stop].copy()


def main() -> None:
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        stores.make_folders(root / "source", VIDEOS, LENGTH, SIZE, masks=False)
        stores.make_store(root / "source", root / "store", workers=2, shard_mb=512)
        source = Stored("train", root, name="store", train="train")
        arrays = [root / f"{number}.tar" for number in range(VIDEOS)]
        for number, path in enumerate(arrays):
            write_tar(path, source[number].frames(range(LENGTH)))
        times: dict[str, list[float]] = {"npy": [], "store": [], "warm_npy": [], "warm_store": []}
        for _ in range(ROUNDS):
            video, first = int(rng.integers(VIDEOS)), int(rng.integers(LENGTH - CLIP + 1))
            clip = range(first, first + CLIP)
            for warm in ("", "warm_"):
                if not warm:
                    stores.drop_from_cache(arrays[video])
                    stores.drop_from_cache(root / "store" / "00000.tar")
                times[f"{warm}npy"].append(timed(partial(read_tar, arrays[video], clip)))
                times[f"{warm}store"].append(timed(partial(source[video].frames, clip)))
    best = {key: min(values) for key, values in times.items()}
    for key, seconds in best.items():
        print(f"{key}_ms_per_clip={1000 * seconds:.1f}")
    print(f"warm_ratio={best['warm_store'] / best['warm_npy']:.3f}")
    print(f"ratio={best['store'] / best['npy']:.3f}")


if __name__ == "__main__":
    main()
