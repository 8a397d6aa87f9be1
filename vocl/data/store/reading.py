"""Reading shards: which videos a store holds, and any member of one by a single read at its place."""

from __future__ import annotations

import os
import threading
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from vocl.data.store import layout
from vocl.data.store.layout import ABSENT, FACTS, FRAME, PARTS, RATE, Manifest
from vocl.errors import UserError

MOST_OPEN = 128  # tars at a time, in every process
Members = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # first of each row; offsets, sizes, sums


@dataclass(frozen=True)
class Entry:
    """A video as an index lists it. `number`: its row in its shard. `objects` -1: without truth."""

    name: str
    split: str
    shard: Shard
    number: int
    length: int
    size: tuple[int, int]
    objects: int
    fps: float | None = None

    def has(self, kind: str) -> bool:
        """Whether there are members of a kind."""
        found = self.shard.members.get(kind)
        return found is not None and found[0][self.number] < found[0][self.number + 1]

    def read(self, kind: str, index: int = 0) -> bytes | None:
        """Member `index` of a kind; None where it is absent. UserError where it is damaged."""
        first, offsets, sizes, sums = self.shard.members[kind]
        at = first[self.number] + index
        assert at < first[self.number + 1], (self.name, kind, index)
        if offsets[at] == ABSENT:
            return None
        data = self.shard.read(int(offsets[at]), int(sizes[at]))
        if zlib.crc32(data) != sums[at]:
            raise UserError(
                f"{self.shard.tar}: damaged, {kind} {index} of video {self.name} is not what was stored"
            )
        return data

    def sums(self, kind: str) -> bytes:
        """What changes when a member of a kind does."""
        first, _, sizes, sums = self.shard.members[kind]
        part = slice(first[self.number], first[self.number + 1])
        return sizes[part].tobytes() + sums[part].tobytes()


class Shard:
    """The index of one tar, in arrays; the tar is opened at the first read, once in every process."""

    def __init__(self, store: Path, name: str) -> None:
        self.tar, self.index = layout.tar_path(store, name), layout.index_path(store, name)
        table = self._table()
        self.rows = {name: table[name].to_pylist() for name in (*FACTS, RATE) if name in table.column_names}
        self.members: dict[str, Members] = {}
        for column in table.column_names:
            kind, _, part = column.rpartition("_")
            if part == PARTS[0]:
                self.members[kind] = _members(table, kind)

    def entries(self) -> list[Entry]:
        """Its videos, in order."""
        facts = [self.rows[name] for name in FACTS]
        rows = zip(*facts, self.rows.get(RATE, [None] * len(facts[0])), strict=True)
        return [
            Entry(name, split, self, number, length, (height, width), -1 if objects is None else objects, fps)
            for number, (name, split, length, height, width, objects, fps) in enumerate(rows)
        ]

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of the tar. No shared position: threads and forked processes may read at once."""
        try:
            data = _OPEN.read(self.tar, size, offset)
        except OSError as error:
            raise UserError(f"{self.tar}: cannot be read: {error.strerror}") from None
        if len(data) != size:
            raise UserError(f"{self.tar}: cut short; the store was not copied whole")
        return data

    def _table(self) -> Any:
        import pyarrow
        import pyarrow.parquet

        try:
            table = pyarrow.parquet.read_table(self.index)
        except FileNotFoundError:
            raise UserError(f"{self.index}: no such file; the store was not copied whole") from None
        except (OSError, pyarrow.ArrowException) as error:
            raise UserError(f"{self.index}: cannot be read: {' '.join(str(error).split())}") from None
        lacking = [name for name in (*FACTS, *layout.columns_of(FRAME)) if name not in table.column_names]
        if lacking and table.num_rows:
            raise UserError(f"{self.index}: is no index of a shard, it lacks {', '.join(lacking)}")
        return table


class _OpenTars:
    """Descriptors of the tars that were read last; a process that was forked opens its own.

    A store of a dataset may have more shards than a process may open files.
    """

    def __init__(self) -> None:
        self.process, self.handles, self.lock = os.getpid(), OrderedDict[Path, int](), threading.Lock()

    def read(self, path: Path, size: int, offset: int) -> bytes:
        """Bytes of a tar."""
        if self.process != os.getpid():
            self.__init__()  # type: ignore[misc]
        with self.lock:
            if path not in self.handles:
                self.handles[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self.handles.move_to_end(path)
            if len(self.handles) > MOST_OPEN:
                os.close(self.handles.popitem(last=False)[1])
            return os.pread(self.handles[path], size, offset)


_OPEN = _OpenTars()


def _members(table: Any, kind: str) -> Members:
    """Where the members of a kind lie: row r has those from `first[r]` to `first[r + 1]`."""
    lists = [table[name].combine_chunks() for name in layout.columns_of(kind)]
    lengths = lists[0].value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    first = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    offsets, sizes, sums = (part.flatten().to_numpy(zero_copy_only=False) for part in lists)
    return first, offsets, sizes, sums


class Store:
    """A whole store: its manifest, the videos of its shards by name, and its splits."""

    def __init__(self, path: Path) -> None:
        self.path, self.manifest = path, Manifest.read(path)
        self.shards = [Shard(path, shard.name) for shard in self.manifest.shards]

    @cached_property
    def entries(self) -> Mapping[str, Entry]:
        """All videos by name, in order. UserError where two have one name."""
        found: dict[str, Entry] = {}
        for shard in self.shards:
            for entry in shard.entries():
                if entry.name in found:
                    raise UserError(
                        f"{shard.index}: video {entry.name} is in {found[entry.name].shard.index} too"
                    )
                found[entry.name] = entry
        return found

    def refuse_cut(self) -> None:
        """Refuse tars of other sizes than the manifest says, by one look at each. UserError."""
        for shard, sums in zip(self.shards, self.manifest.shards, strict=True):
            try:
                size = shard.tar.stat().st_size
            except OSError as error:
                raise UserError(f"{shard.tar}: cannot be read: {error.strerror}") from None
            if size != sums.bytes:
                raise UserError(f"{shard.tar}: {size} bytes, {sums.bytes} were written; copy it again")
            if len(shard.rows["video"]) != sums.videos:
                raise UserError(
                    f"{shard.index}: {len(shard.rows['video'])} videos, {sums.videos} were written"
                )
