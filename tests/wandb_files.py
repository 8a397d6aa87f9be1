"""Reads what the W&B client writes to disk: records in the log format of LevelDB."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK, HEADER = 32768, 7


def records(path: Path) -> Iterator[Any]:
    """The whole records of a .wandb file, in order."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, at, parts = path.read_bytes(), HEADER, b""
    while at + HEADER <= len(content):
        if BLOCK - at % BLOCK < HEADER:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + HEADER])
        if at + HEADER + length > len(content):
            return
        parts += content[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (1, 4):  # full, or last
            record = Record()
            record.ParseFromString(parts)
            yield record
            parts = b""


def rows(path: Path) -> list[dict[str, Any]]:
    """What was logged, without the client's own keys."""
    found = [record.history for record in records(path) if record.WhichOneof("record_type") == "history"]
    return [_own({_name(i): json.loads(i.value_json) for i in history.item}) for history in found]


def opened(path: Path) -> Any:
    """The record that names the run: its id, project, group, name and config."""
    return next(record.run for record in records(path) if record.WhichOneof("record_type") == "run")


def summary(path: Path) -> dict[str, Any]:
    """The last value of every key of the summary."""
    updates = [r.summary.update for r in records(path) if r.WhichOneof("record_type") == "summary"]
    return {_name(item): json.loads(item.value_json) for update in updates for item in update}


def folders(run: Path) -> list[Path]:
    """The .wandb files of a run, oldest first."""
    return sorted((run / "wandb").glob("*run-*/*.wandb"))


def _name(item: Any) -> str:
    return item.key or ".".join(item.nested_key)


def _own(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if not key.startswith("_")}
