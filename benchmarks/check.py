"""The check of a store of 10 000 videos before a run, against opening one frame file of each.

Run from the repository root: `python benchmarks/check.py`. 10 000 videos of 24 tiny frames. Ours is all that
a run asks of its data before it starts: indexes, split, lengths of shards, and the header of no file.
The baseline opens each of 24 frames of 400 videos kept as files, as the check of plain folders does,
and is multiplied by 25.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import stores

from vocl.data.convert.converter import Converter, Unit
from vocl.data.images import frame_files, image_size
from vocl.data.sources.files import FrameFolders
from vocl.data.store.prepare import Settings, prepare
from vocl.data.store.record import Record
from vocl.errors import UserError
from vocl.stop import StopFlag

VIDEOS, LENGTH, OPENED = 10_000, 24, 400


class Copies(Converter):
    """One video under many names."""

    def __init__(self, source: Path) -> None:
        super().__init__(source, partial=True)
        self.frames = [path.read_bytes() for path in frame_files(source / "train" / "000" / "frames")]

    def units(self) -> Sequence[Unit]:
        return [Unit(f"{number:05d}", 100_000) for number in range(VIDEOS)]

    def records(self, unit: Unit) -> Iterator[Record | UserError]:
        yield Record(unit.name, "train", self.frames, masks=[np.ones((32, 32), np.uint8)] * LENGTH)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        stores.make_folders(root / "source", 1, LENGTH, (32, 32), masks=False)
        how = Settings(workers=2, shard_mb=64, skip_damaged=False)
        prepare(Copies(root / "source"), {}, "store", root / "store", how, StopFlag())
        times = []
        for _ in range(3):
            start = time.perf_counter()
            source = FrameFolders("train", root, name="store")
            source.check()
            assert min(source[i].length for i in range(len(source))) == LENGTH and len(source) == VIDEOS
            times.append(time.perf_counter() - start)
        folder = root / "source" / "train" / "000" / "frames"
        start = time.perf_counter()
        for _ in range(OPENED):
            for path in frame_files(folder):
                image_size(path)
        files = (time.perf_counter() - start) * VIDEOS / OPENED
    print(f"check_s={min(times):.2f}")
    print(f"one_open_per_frame_s={files:.1f}")
    print(f"ratio={min(times) / files:.4f}")


if __name__ == "__main__":
    main()
