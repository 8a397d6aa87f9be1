"""Names and columns of a store's files: whoever reads or writes one asks here."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vocl.errors import UserError
from vocl.files import Kinds, holds, parse_json, read_bytes, write_json

SCHEMA = 1
MANIFEST, SPLITS = "manifest.json", "splits"
FACTS, RATE = ("video", "split", "length", "height", "width", "objects"), "fps"  # of a video, in the index
FRAME, MASK = "frame", "mask"  # members of which there is one per frame, beside the dense ones
OBJECTS, POINTS, MORE = "objects.json", "points.npy", "more.json"  # of which there is one per video
PARTS = ("offset", "size", "crc")  # of a member: where its bytes lie in the tar, how many, their CRC-32
SINGLES = {"objects": OBJECTS, "points": POINTS, "more": MORE}
ABSENT = -1  # the offset of a member that is not there: the mask of a frame that was not annotated
_NAME = re.compile(r"[^\x00-\x1f\x7f\\\ud800-\udfff]+")
_DENSE_NAME = re.compile(r"[a-z][a-z_0-9]*")

MANIFEST_KINDS: Kinds = {
    "schema": int,
    "name": str,
    "converter": dict,
    "annotation": (str, type(None)),
    "shards": list,
    "skipped": list,
}
SHARD_KINDS: Kinds = {"name": str, "videos": int, "bytes": int, "sha256": str, "index_sha256": str}


@dataclass(frozen=True)
class ShardSums:
    """A shard as the manifest lists it: its stem, and what its two files must be."""

    name: str
    videos: int
    bytes: int
    sha256: str
    index_sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a store is made of. `annotation`: the SHA-256 of the file that its splits index, if there is one.

    `converter`: the config node that made it. `skipped`: why videos were left out, a line each.
    """

    name: str
    converter: dict[str, Any]
    annotation: str | None
    shards: list[ShardSums]
    skipped: list[str] = field(default_factory=list)

    def write(self, store: Path) -> None:
        """Make `store` whole."""
        write_json(store / MANIFEST, {"schema": SCHEMA, **asdict(self)})

    @classmethod
    def read(cls, store: Path) -> Manifest:
        """Of a whole store. UserError where there is none, or one of another schema."""
        path = store / MANIFEST
        if not path.is_file():
            raise UserError(
                f"{path}: no such file; a store is made by: vocl data prepare NAME SOURCE {store}"
            )
        content = _content(path)
        if content["schema"] != SCHEMA:
            raise UserError(f"{path}: has schema {content['schema']}; this version reads {SCHEMA}")
        shards = [ShardSums(**{key: shard[key] for key in SHARD_KINDS}) for shard in content["shards"]]
        return cls(content["name"], content["converter"], content["annotation"], shards, content["skipped"])


def _content(path: Path) -> dict[str, Any]:
    try:
        content = parse_json(read_bytes(path))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    if not holds(content, MANIFEST_KINDS) or not all(holds(s, SHARD_KINDS) for s in content["shards"]):
        raise UserError(f"{path}: is no manifest of a store, or damaged")
    return content


def is_store(folder: Path) -> bool:
    """Whether a folder is a whole store."""
    return (folder / MANIFEST).is_file()


def tar_path(store: Path, shard: str) -> Path:
    """The members of a shard."""
    return store / f"{shard}.tar"


def index_path(store: Path, shard: str) -> Path:
    """Where they lie; it is written after the tar, so its presence means that the shard is whole."""
    return store / f"{shard}.parquet"


def columns_of(kind: str) -> list[str]:
    """The three columns of the members of a kind."""
    return [f"{kind}_{part}" for part in PARTS]


def refuse_bad_name(name: str, dense: Iterable[str] = ()) -> None:
    """Refuse a video that no folder of a tar could be named after. UserError."""
    parts = name.split("/")
    is_line = name == name.strip() and name.splitlines() == [name] and not name.startswith("#")  # of a split
    if not is_line or not _NAME.fullmatch(name) or {"", ".", ".."} & {*parts} or len(name) > 200:
        raise UserError(f"video {name!r}: cannot name a folder")
    wrong = [kind for kind in dense if not _DENSE_NAME.fullmatch(kind) or kind in (FRAME, MASK, *SINGLES)]
    if wrong:
        raise UserError(f"video {name}: values cannot be called {wrong[0]!r}")
