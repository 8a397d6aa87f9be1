"""Looking whether a store is what was written: sums of its files, and every image of every video."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from vocl.data.features.progress import Progress
from vocl.data.store import splits
from vocl.data.store.reading import Store
from vocl.data.store.source import StoredVideo
from vocl.errors import UserError


def faults(folder: Path, decode: bool) -> Iterator[str]:
    """What is wrong with a store, a line each, as it is found.

    `decode`: every frame and mask, too. UserError where there is no store.
    """
    store = Store(folder)
    yield from _sums(store)
    try:
        entries = store.entries
        for name in splits.names(folder):
            splits.read(folder, name, store.manifest.annotation, entries)
    except UserError as error:
        yield str(error)
        return
    progress = Progress(f"videos of {folder.name}")
    for number, entry in enumerate(entries.values() if decode else ()):
        progress(number, len(entries))
        video = StoredVideo(entry)
        try:
            for index in range(video.length):
                video.frames([index])
            video.truth()
        except UserError as error:
            yield str(error)


def _sums(store: Store) -> Iterator[str]:
    progress = Progress(f"shards of {store.path.name}")
    for number, (shard, sums) in enumerate(zip(store.shards, store.manifest.shards, strict=True)):
        progress(number, len(store.shards))
        for path, expected in ((shard.tar, sums.sha256), (shard.index, sums.index_sha256)):
            try:
                with path.open("rb") as file:
                    found = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                yield f"{path}: cannot be read: {error.strerror}"
                continue
            if found != expected:
                yield f"{path}: damaged, its SHA-256 is not the one in the manifest; copy it again"
