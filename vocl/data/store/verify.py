"""Looking whether a store is what was written: sums of its files, and every image of every video."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vocl.data.features.progress import Progress
from vocl.data.store import layout, splits
from vocl.data.store.reading import Shard, Store
from vocl.data.store.source import StoredVideo
from vocl.data.store.writing import sha256_of
from vocl.errors import UserError


def faults(folder: Path, decode: bool) -> Iterator[str]:
    """What is wrong with a store, a line each, as it is found.

    `decode`: every frame and mask, too. UserError where there is no store.
    """
    try:
        store = Store(folder)
    except UserError as error:
        if not layout.is_store(folder):
            raise
        yield str(error)
        return
    lacking: set[Shard] = set()
    yield from _sums(store, lacking)
    try:
        entries = store.entries
    except UserError as error:
        yield str(error)
        return
    for name in splits.names(folder):
        try:
            splits.read(folder, name, store.manifest.annotation, entries)
        except UserError as error:
            yield str(error)
    progress = Progress(f"videos of {folder.name}")
    for number, entry in enumerate(entries.values() if decode else ()):
        if entry.shard not in lacking:
            yield from _video(StoredVideo(entry))
        progress(number + 1, len(entries))


def _video(video: StoredVideo) -> Iterator[str]:
    """What is wrong with a video; nothing after the first fault."""
    try:
        for index in range(video.length):
            video.frames([index])
        video.truth()
    except UserError as error:
        yield str(error)


def _sums(store: Store, lacking: set[Shard]) -> Iterator[str]:
    """Files that are not what was written; shards whose tar is not there whole are added to `lacking`."""
    progress = Progress(f"shards of {store.path.name}")
    for number, (shard, sums) in enumerate(zip(store.shards, store.manifest.shards, strict=True)):
        progress(number, len(store.shards))
        try:
            size = shard.tar.stat().st_size
        except OSError as error:
            lacking.add(shard)
            yield f"{shard.tar}: cannot be read: {error.strerror}; copy it again"
            continue
        if size != sums.bytes:
            lacking.add(shard)
            yield f"{shard.tar}: {size} bytes, {sums.bytes} were written; copy it again"
            continue
        for path, expected in ((shard.tar, sums.sha256), (shard.index, sums.index_sha256)):
            if sha256_of(path) != expected:
                yield f"{path}: damaged, its SHA-256 is not the one in the manifest; copy it again"
