"""Random clips of 4 frames from a store, against decoding the same tar from its first byte to its last.

Run from the repository root: `python benchmarks/feed.py`. 12 videos of 40 frames of 854 x 480, 16 MB of
JPEG. Both decode as many frames, by the same decoder, in one process; the time of a frame counts. So
the ratio is what jumping about costs: finding a video, the read at its place, the sum of its bytes.
"""

from __future__ import annotations

import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import stores

from vocl.data.images import Encoded, read_frame
from vocl.data.store.source import Stored

VIDEOS, LENGTH, SIZE, CLIP, ROUNDS = 12, 40, (480, 854), 4, 5


def sequential(tar: Path) -> float:
    """Seconds per frame of all frames in the order in which they lie."""
    start, number = time.perf_counter(), 0
    with tarfile.open(tar, "r:") as file:
        for member in file:
            if member.name.endswith(".jpg"):
                data = file.extractfile(member)
                assert data is not None
                read_frame(Encoded(data.read(), member.name))
                number += 1
    return (time.perf_counter() - start) / number


def at_random(source: Stored, clips: int, rng: np.random.Generator) -> float:
    """Seconds per frame of clips of videos, each with a start of its own."""
    start = time.perf_counter()
    for _ in range(clips):
        video = source[int(rng.integers(len(source)))]
        first = int(rng.integers(video.length - CLIP + 1))
        video.frames(range(first, first + CLIP))
    return (time.perf_counter() - start) / (clips * CLIP)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        stores.make_folders(root / "source", VIDEOS, LENGTH, SIZE, masks=False)
        stores.make_store(root / "source", root / "store", workers=2, shard_mb=512)
        source, rng = Stored("train", root, name="store", train="train"), np.random.default_rng(0)
        ours, theirs = [], []
        for _ in range(ROUNDS):
            theirs.append(sequential(root / "store" / "00000.tar"))
            ours.append(at_random(source, VIDEOS * LENGTH // CLIP, rng))
    print(f"sequential_frames_per_s={1 / min(theirs):.0f}")
    print(f"random_frames_per_s={1 / min(ours):.0f}")
    print(f"ratio={min(ours) / min(theirs):.3f}")


if __name__ == "__main__":
    main()
