"""Making a store with 2 processes, against 1.

Run from the repository root: `python benchmarks/prepare.py`. 24 videos of 24 frames of 640 x 360 with masks,
in shards of 1 MB, so that both have work to the end. Needs two free cores.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

import stores

VIDEOS, LENGTH, SIZE, ROUNDS = 24, 24, (360, 640), 3


def main() -> None:
    times: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        stores.make_folders(root / "source", VIDEOS, LENGTH, SIZE, masks=True)
        for _ in range(ROUNDS):
            for workers, seconds in times.items():
                start = time.perf_counter()
                stores.make_store(root / "source", root / "store", workers, shard_mb=1)
                seconds.append(time.perf_counter() - start)
                shutil.rmtree(root / "store")
    for workers, seconds in times.items():
        print(f"frames_per_s_{workers}={VIDEOS * LENGTH / min(seconds):.0f}")
    print(f"ratio={min(times[2]) / min(times[1]):.3f}")


if __name__ == "__main__":
    main()
