"""Writing one shard: a tar of members, and the parquet index of where each lies."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vocl.data.convert.converter import LeftOut
from vocl.data.images import Encoded, check_sizes, image_size, suffix_of
from vocl.data.store import layout
from vocl.data.store.layout import ABSENT, FRAME, MASK, PARTS, SINGLES, ShardSums
from vocl.data.store.record import Record
from vocl.errors import UserError
from vocl.files import atomic_path
from vocl.interface import VOID
from vocl.ops.palette import palette


def write_shard(
    store: Path, name: str, records: Iterable[Record | UserError], skip_damaged: bool
) -> tuple[ShardSums, list[str]]:
    """Write shard `name`: first its tar, then its index, each whole or not at all; returns what lies there.

    A record that contradicts itself is an error as one that could not be read: raised, or with
    `skip_damaged` left out and told among what the index says was skipped, as what a converter leaves out
    itself always is.
    """
    rows: list[dict[str, Any]] = []
    skipped: list[str] = []
    with atomic_path(layout.tar_path(store, name)) as path:
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
            for record in records:
                try:
                    video = _Video(record)
                except UserError as error:
                    if not (skip_damaged or isinstance(error, LeftOut)):
                        raise
                    skipped.append(str(error))
                else:
                    rows.append(video.put(tar))
        facts = {
            "sha256": sha256_of(path),
            "bytes": path.stat().st_size,
            "videos": len(rows),
            "skipped": skipped,
        }
    _write_index(layout.index_path(store, name), rows, facts)
    return finished(store, name)


def finished(store: Path, name: str) -> tuple[ShardSums, list[str]]:
    """What lies there of a shard that is whole, as its index says."""
    import pyarrow.parquet

    path = layout.index_path(store, name)
    facts = json.loads(pyarrow.parquet.read_schema(path).metadata[b"vocl"])
    sums = ShardSums(name, facts["videos"], facts["bytes"], facts["sha256"], sha256_of(path))
    return sums, facts["skipped"]


class _Video:
    """A record that holds together, on its way into a tar: frame after frame, each part's place noted."""

    def __init__(self, record: Record | UserError) -> None:
        if isinstance(record, UserError):
            raise record
        self.record, self.places = record, dict[str, list[tuple[int, int, int]]]()
        layout.refuse_bad_name(record.name, record.dense)
        if not record.frames:
            raise UserError(f"video {record.name}: has no frame")
        frames = [Encoded(data, f"video {record.name}: frame {t}") for t, data in enumerate(record.frames)]
        self.suffixes, self.size = [suffix_of(frame) for frame in frames], image_size(frames[0])
        check_sizes(frames, self.size)
        self.masks = None if record.masks is None else list(record.masks)
        self._refuse_other_lengths()
        self._refuse_other_masks()

    def put(self, tar: tarfile.TarFile) -> dict[str, Any]:
        """Write all; returns the video's row of the index."""
        record = self.record
        for t, frame in enumerate(record.frames):
            self._add(tar, FRAME, f"{t:05d}{self.suffixes[t]}", frame)
            if self.masks is not None:
                mask = self.masks[t]
                self._add(tar, MASK, f"{t:05d}.png", None if mask is None else label_png(mask))
            for kind, dense in record.dense.items():
                self._add(tar, kind, f"{t:05d}.{kind}.npy", _npy(dense.values[t]))
        for kind, data in self._singles().items():
            self._add(tar, kind, SINGLES[kind], data)
        facts = {"video": record.name, "split": record.split, "length": len(record.frames), "fps": record.fps}
        facts |= {"height": self.size[0], "width": self.size[1], "objects": self._num_objects()}
        return facts | {
            f"{k}_{p}": [at[i] for at in v] for k, v in self.places.items() for i, p in enumerate(PARTS)
        }

    def _add(self, tar: tarfile.TarFile, kind: str, name: str, data: bytes | None) -> None:
        """Write a member, if there is one, and note where its bytes lie."""
        place = (ABSENT, 0, 0)
        if data is not None:
            info = tarfile.TarInfo(f"{self.record.name}/{name}")
            info.size = len(data)
            head = len(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))
            place = (tar.offset + head, len(data), zlib.crc32(data))
            tar.addfile(info, io.BytesIO(data))
        self.places.setdefault(kind, []).append(place)

    def _refuse_other_masks(self) -> None:
        for t, mask in enumerate(self.masks or ()):
            if mask is not None and (mask.shape != self.size or mask.dtype != np.uint8):
                raise UserError(
                    f"video {self.record.name}: mask {t} is {mask.dtype} {mask.shape}, frames {self.size}"
                )
        objects = self.record.objects
        if objects is not None and objects.size != self.size:
            raise UserError(f"video {self.record.name}: masks of {objects.size}, frames of {self.size}")
        if objects is not None and len(objects.objects) >= VOID:
            raise UserError(
                f"video {self.record.name}: {len(objects.objects)} objects, at most {VOID - 1} have a label"
            )

    def _singles(self) -> dict[str, bytes]:
        record, found = self.record, {}
        if record.objects is not None:
            found["objects"] = json.dumps(record.objects.as_json()).encode()
        if record.points is not None:
            found["points"] = _npy(record.points.astype(np.float32))
        ranges = {kind: [dense.low, dense.high] for kind, dense in record.dense.items()}
        known = {"ranges": ranges, "classes": record.classes and list(record.classes), **record.more}
        return found | {"more": json.dumps(known).encode()}

    def _num_objects(self) -> int | None:
        if self.record.objects is not None:
            return len(self.record.objects.objects)
        if self.masks is None:
            return None
        seen = {int(label) for mask in self.masks if mask is not None for label in np.unique(mask)}
        return max(seen - {VOID}, default=0)

    def _refuse_other_lengths(self) -> None:
        record, objects = self.record, self.record.objects
        lengths: dict[str, int | None] = {
            "masks": None if self.masks is None else len(self.masks),
            "points": None if record.points is None else len(record.points),
            "masks of objects": None if objects is None else objects.length,
        }
        lengths |= {kind: len(dense.values) for kind, dense in record.dense.items()}
        for kind, number in lengths.items():
            if number not in (None, len(record.frames)):
                raise UserError(f"video {record.name}: {number} {kind} for {len(record.frames)} frames")


def label_png(labels: np.ndarray) -> bytes:
    """A label map h w uint8 as an indexed PNG, in colours that tell neighbours apart."""
    buffer = io.BytesIO()
    image = Image.fromarray(labels, mode="P")
    image.putpalette(palette().tobytes())
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _npy(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(values), allow_pickle=False)
    return buffer.getvalue()


def _write_index(path: Path, rows: list[dict[str, Any]], facts: dict[str, Any]) -> None:
    import pyarrow
    import pyarrow.parquet

    fixed = (*layout.FACTS, layout.RATE, *layout.columns_of(FRAME))
    names = list(dict.fromkeys([*fixed, *(name for row in rows for name in row)]))
    table = pyarrow.table(
        {name: pyarrow.array([row.get(name) for row in rows], _type(name)) for name in names}
    )
    table = table.replace_schema_metadata({"vocl": json.dumps(facts)})
    with atomic_path(path) as temporary:
        pyarrow.parquet.write_table(table, temporary, compression="zstd")


def _type(name: str) -> Any:
    import pyarrow

    if name in ("video", "split"):
        return pyarrow.string()
    if name in ("length", "height", "width", "objects"):
        return pyarrow.int32()
    return pyarrow.float64() if name == "fps" else pyarrow.list_(pyarrow.int64())


def sha256_of(path: Path) -> str:
    """Of a file's content, in hex."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        return hashlib.file_digest(file, "sha256").hexdigest()
