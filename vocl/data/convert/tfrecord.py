"""TFRecord files of `tf.train.Example` messages, read without TensorFlow.

A file is a row of records: the length (8 bytes, the lowest first), its masked CRC-32C, the data, their
masked CRC-32C. An example is a protobuf message, a map from names to lists of bytes, floats or integers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vocl.data.convert.crc32c import masked
from vocl.data.convert.trees import told
from vocl.errors import UserError
from vocl.files import open_regular

_HEAD, _FOOT = struct.Struct("<QI"), struct.Struct("<I")
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types of protobuf
_LONGEST = 10  # bytes of a varint
_KINDS = {1: "bytes", 2: "floats", 3: "integers"}


def records(path: Path) -> Iterator[bytes | UserError]:
    """The records of a file, an error in the place of one whose checksum is wrong.

    Where a length is damaged or the file ends within a record nothing behind that can be found: the
    error that says so is the last.
    """
    with told(path), open_regular(path) as file:
        left, number = path.stat().st_size, 0
        while left:
            head = file.read(_HEAD.size)
            if len(head) < _HEAD.size:
                yield UserError(f"{path}: cut short within the head of record {number}")
                return
            length, found = _HEAD.unpack(head)
            if masked(head[:8]) != found:
                yield UserError(f"{path}: the length of record {number} is damaged; the rest cannot be found")
                return
            left -= _HEAD.size + length + _FOOT.size
            if left < 0:
                yield UserError(f"{path}: cut short within record {number}; {-left} bytes are missing")
                return
            data, foot = file.read(length), file.read(_FOOT.size)
            if masked(data) == int.from_bytes(foot, "little"):
                yield data
            else:
                yield UserError(f"{path}: record {number} is damaged, its checksum is another")
            number += 1


class Example:
    """One `tf.train.Example`: its lists by name, each decoded when it is asked for.

    `place` is what messages call it. Raises `UserError` for what is no such message, and for a list
    that is missing or of another kind.
    """

    def __init__(self, data: bytes, place: str) -> None:
        self.place = place
        self._features: dict[str, memoryview] = {}
        for features in self._messages(memoryview(data), 1):
            for entry in self._messages(features, 1):
                self._add(entry)

    def __contains__(self, name: str) -> bool:
        return name in self._features

    def bytes(self, name: str) -> list[bytes]:
        """A list of strings of bytes."""
        return [bytes(value) for value in self._messages(self._list(name, 1), 1)]

    def text(self, name: str) -> str:
        """The one string of a list, or the one integer of another as a string."""
        if self.kind(name) == "bytes":
            values = [value.decode("utf-8", "replace") for value in self.bytes(name)]
        else:
            values = [str(value) for value in self.integers(name)]
        if len(values) != 1:
            raise UserError(f"{self.place}: {name} has {len(values)} values, not one")
        return values[0]

    def floats(self, name: str) -> np.ndarray:
        """A list of numbers, float32."""
        parts = []
        for wire, value in self._values(self._list(name, 2), 1):
            data = value if isinstance(value, memoryview) else b""
            if wire not in (_BYTES, _FIXED32) or len(data) % 4:
                raise self._broken(name)
            parts.append(np.frombuffer(data, "<f4"))
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def integers(self, name: str) -> np.ndarray:
        """A list of integers, int64."""
        parts = []
        for wire, value in self._values(self._list(name, 3), 1):
            if wire == _BYTES and isinstance(value, memoryview):
                parts.append(_varints(value, self._broken(name)))
            elif wire == _VARINT and isinstance(value, int):
                parts.append(np.array([value], np.uint64).view(np.int64))
            else:
                raise self._broken(name)
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def _add(self, entry: memoryview) -> None:
        name, feature = None, memoryview(b"")
        for number, wire, value in self._fields(entry):
            if wire == _BYTES and isinstance(value, memoryview):
                if number == 1:
                    name = bytes(value).decode("utf-8", "replace")
                elif number == 2:
                    feature = value
        if name is not None:
            self._features[name] = feature

    def kind(self, name: str) -> str | None:
        """What a list has: bytes, floats or integers; None where it is empty and of no kind."""
        if name not in self._features:
            raise UserError(f"{self.place}: has no {name}")
        return next((_KINDS.get(number) for number, _, _ in self._fields(self._features[name])), None)

    def _list(self, name: str, kind: int) -> memoryview:
        if self.kind(name) not in (None, _KINDS[kind]):
            raise UserError(f"{self.place}: {name} is no list of {_KINDS[kind]}")
        return next(self._messages(self._features[name], kind), memoryview(b""))

    def _messages(self, data: memoryview, wanted: int) -> Iterator[memoryview]:
        for wire, value in self._values(data, wanted):
            if wire != _BYTES or not isinstance(value, memoryview):
                raise self._broken()
            yield value

    def _values(self, data: memoryview, wanted: int) -> Iterator[tuple[int, int | memoryview]]:
        return ((wire, value) for number, wire, value in self._fields(data) if number == wanted)

    def _fields(self, data: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
        """(number, wire type, value) of each field of a message: an integer, or the bytes."""
        at = 0
        while at < len(data):
            key, at = self._varint(data, at)
            wire = key & 7
            if wire == _VARINT:
                value, at = self._varint(data, at)
                yield key >> 3, wire, value
                continue
            if wire == _BYTES:
                size, at = self._varint(data, at)
            else:
                size = {_FIXED64: 8, _FIXED32: 4}.get(wire, len(data))
            if size > len(data) - at:
                raise self._broken()
            yield key >> 3, wire, data[at : at + size]
            at += size

    def _varint(self, data: memoryview, at: int) -> tuple[int, int]:
        value = 0
        for place, byte in enumerate(data[at : at + _LONGEST]):
            value |= (byte & 127) << 7 * place
            if byte < 128:
                return value & 2**64 - 1, at + place + 1
        raise self._broken()

    def _broken(self, name: str | None = None) -> UserError:
        return UserError(f"{self.place}: {name or 'it'} is no part of a tf.train.Example")


def _varints(data: memoryview, broken: UserError) -> np.ndarray:
    """Integers that stand one after the other, each of up to ten bytes."""
    found = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(found < 128)
    if len(found) and (not len(ends) or ends[-1] != len(found) - 1):
        raise broken
    starts = np.concatenate([[0], ends[:-1] + 1]).astype(np.int64)[: len(ends)]
    sizes = ends - starts + 1
    if sizes.max(initial=0) > _LONGEST:
        raise broken
    out = np.zeros(len(ends), np.uint64)
    for place in range(int(sizes.max(initial=0))):
        there = sizes > place
        out[there] |= (found[starts[there] + place] & np.uint8(127)).astype(np.uint64) << np.uint64(7 * place)
    return out.view(np.int64)
