"""Videos of a prepared dataset, as trainings and evaluations see them."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from vocl.data.annotations import boxes_of
from vocl.data.images import Encoded, by, opened, read_frame
from vocl.data.sources.kept import Kept
from vocl.data.store import splits
from vocl.data.store.layout import FRAME, MASK
from vocl.data.store.reading import Entry, Store
from vocl.data.store.record import LEVELS
from vocl.data.truth import Keypoints, Truth
from vocl.errors import UserError
from vocl.interface import VOID, Source


class StoredVideo:
    """One video of a store (an `interface.Video`); nothing is read before it is asked for."""

    in_threads: ClassVar[bool] = True

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.name, self.length, self.size = entry.name, entry.length, entry.size
        self.fps = entry.fps

    def frames(self, indices: Sequence[int]) -> np.ndarray:
        """Frames `indices` as uint8 t h w 3. UserError where one is damaged."""
        out = np.empty((len(indices), *self.size, 3), np.uint8)
        for place, index in enumerate(indices):
            image = Encoded(
                self._data(FRAME, index), f"{self.entry.shard.tar}: frame {index} of video {self.name}"
            )
            frame = read_frame(image)
            if frame.shape[:2] != self.size:
                raise UserError(f"{image}: {by(frame.shape[:2])} pixels, the index says {by(self.size)}")
            out[place] = frame
        return out

    def annotations(self, names: Sequence[str], indices: Sequence[int]) -> dict[str, np.ndarray]:
        """What is asked for of frames `indices`; see `Stored.annotated`."""
        found: dict[str, np.ndarray] = {}
        for name in names:
            if name in ("masks", "boxes"):
                labels = found["masks"] if "masks" in found else self.labels(indices)
                found[name] = labels if name == "masks" else boxes_of(labels, max(self.entry.objects, 0))
            elif name == "points":
                found[name] = self._points[list(indices)]
            else:
                found[name] = self._dense(name, indices)
        return {name: found[name] for name in names}

    def labels(self, indices: Sequence[int]) -> np.ndarray:
        """Label maps uint8 t h w; 255 also where a frame was not annotated; the later of objects."""
        if self._objects is not None:
            return self._objects.at(indices).labels("paint")[0]
        out = np.full((len(indices), *self.size), VOID, np.uint8)
        for place, index in enumerate(indices):
            if (data := self.entry.read(MASK, index)) is not None:
                with opened(
                    Encoded(data, f"{self.entry.shard.tar}: mask {index} of video {self.name}")
                ) as image:
                    out[place] = np.asarray(image)
        return out

    def truth(self) -> Truth | Keypoints | None:
        """What is known of it; None where nothing is."""
        if self.entry.has("points"):
            return Keypoints(self.size, self._points)
        classes = self.more["classes"]
        if self._objects is not None:
            whole = classes is not None and len(classes) >= len(self._objects.objects)
            return replace(
                self._objects, classes=tuple(classes[: len(self._objects.objects)]) if whole else None
            )
        return Truth.from_labels(self.labels(range(self.length)), classes) if self.entry.has(MASK) else None

    @cached_property
    def more(self) -> Mapping[str, Any]:
        """What else was stored: ranges of values, classes of objects, and what its dataset says."""
        return json.loads(self._data("more"))

    @cached_property
    def _objects(self) -> Truth | None:
        return Truth.from_json(json.loads(self._data("objects"))) if self.entry.has("objects") else None

    @cached_property
    def _points(self) -> np.ndarray:
        return _array(self._data("points"))

    def _dense(self, name: str, indices: Sequence[int]) -> np.ndarray:
        """Values t c h w float32."""
        codes = np.stack([_array(self._data(name, index)) for index in indices]).astype(np.float32)
        low, high = self.more["ranges"][name]
        values = codes if low is None else low + codes * ((high - low) / LEVELS)
        return np.moveaxis(values, -1, 1)

    def _data(self, kind: str, index: int = 0) -> bytes:
        data = self.entry.read(kind, index)
        assert data is not None, (self.name, kind, index)
        return data


class Stored(Source):
    """A split of a store, `<data_root>/<name>` (an `interface.Source`).

    `split` is a list of the store's `splits` folder; `train`: the list that is meant by the split "train", to
    train on another part (`train_minus_dev`); `videos`: exactly these, whatever the split is. Only indexes
    are read at construction. UserError for what is missing.
    """

    annotated: Mapping[str, str] = Kept.annotated

    def __init__(
        self, split: str, data_root: Path, *, name: str, train: str, videos: Sequence[str] | None = None
    ) -> None:
        self.store = _store(Path(data_root) / name)
        wanted = train if split == "train" else split
        entries = self.store.entries
        if videos is None:
            listed = splits.read(self.store.path, wanted, self.store.manifest.annotation, entries)
        else:
            listed = splits.named(self.store.path, videos, entries)
        self._entries = {video: entries[video] for video in listed}
        self._names = list(self._entries)
        self.annotated = {k: v for k, v in Stored.annotated.items() if self._all_have(k)}

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> StoredVideo:
        return StoredVideo(self._entries[self._names[index]])

    def truth(self, name: str) -> Truth | Keypoints | None:
        """What is true about the video `name`; None where it has no truth."""
        return StoredVideo(self._entries[name]).truth()

    def fingerprint(self, name: str) -> str:
        """Of the stored bytes of its frames."""
        return hashlib.blake2s(self._entries[name].sums(FRAME)).hexdigest()

    def check(self) -> None:
        """Look whether the shards are all there and as long as they were written. UserError."""
        self.store.refuse_cut()

    def _all_have(self, name: str) -> bool:
        kinds = (MASK, "objects") if name in ("masks", "boxes") else (name,)
        return all(any(entry.has(kind) for kind in kinds) for entry in self._entries.values())


def _store(path: Path) -> Store:
    """The store at `path`, whose indexes are read once, whatever number of splits are asked for."""
    with suppress(OSError):
        facts = [(entry.name, entry.stat()) for entry in os.scandir(path) if entry.is_file()]
        return _known_store(path, tuple((n, f.st_ino, f.st_size, f.st_mtime_ns) for n, f in sorted(facts)))
    return Store(path)


@lru_cache(maxsize=4)
def _known_store(path: Path, files: tuple[tuple[str, int, int, int], ...]) -> Store:
    """A store is known by its `files` (name, inode, bytes, time): whatever is written anew is read anew."""
    return Store(path)


def _array(data: bytes) -> np.ndarray:
    return np.load(io.BytesIO(data), allow_pickle=False)
