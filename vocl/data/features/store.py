"""Features as files: one for each video and one for its mirror image, read by mapping them.

A file is a safetensors file: `tokens` t n e, and `keys` t n e where the backbone gives them, exactly as
they were computed; its header holds the patch grid. It gets its name when it is complete, so any number
of processes may write and read at once: two that write the same file write the same bytes.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vocl.errors import UserError
from vocl.files import atomic_path, refuse_planted
from vocl.interface import Features, Grid

TYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}


@dataclass(frozen=True)
class Store:
    """The files in `folder`, which is named by all that their content depends on beside the video."""

    folder: Path
    _known: set[str] = field(default_factory=set)  # files that were found whole

    def has(self, name: str, length: int) -> bool:
        """Whether there is a whole file `name` of `length` frames; a damaged one does not count."""
        if name not in self._known:
            try:
                with safe_open(self.folder / name, "pt") as file:
                    whole = file.get_slice("tokens").get_shape()[0] == length
            except (OSError, SafetensorError):
                return False
            self._known.update({name} if whole else ())
        return name in self._known

    def read(self, clips: Sequence[tuple[str, Sequence[int]]]) -> Features:
        """Of each clip, a row b, these frames of this file; as many of each.

        They are copied once, from the mapped file into the batch, and only their pages are read. Raises
        `UserError` if a file is gone or damaged.
        """
        batch: dict[str, Tensor] = {}
        for row, (name, indices) in enumerate(clips):
            try:
                with safe_open(self.folder / name, "pt") as file:
                    grid = json.loads(file.metadata()["grid"])
                    for key in file.keys():  # noqa: SIM118
                        kept, at = file.get_tensor(key), torch.as_tensor(list(indices))
                        if key not in batch:
                            batch[key] = kept.new_empty(len(clips), len(at), *kept.shape[1:])
                        torch.index_select(kept, 0, at, out=batch[key][row])
            except (OSError, SafetensorError) as error:
                raise UserError(f"{self.folder / name}: cached features cannot be read: {error}") from None
        return Features(batch["tokens"], Grid(*grid), batch.get("keys"))

    def write(self, name: str, parts: Iterator[Features], length: int) -> None:
        """Store consecutive `parts` (b = 1), of `length` frames in all, holding one of them at a time."""
        try:
            refuse_planted(self.folder.parent)
            with atomic_path(self.folder / name) as temporary, temporary.open("r+b") as file:
                start = 0
                for part in parts:
                    tensors = {
                        k: v[0] for k, v in (("tokens", part.tokens), ("keys", part.keys)) if v is not None
                    }
                    header, places = _layout(tensors, length, part.grid)
                    file.seek(0)
                    file.write(header)
                    for key, rows in tensors.items():
                        content = rows.contiguous().view(torch.uint8).numpy().tobytes()
                        file.seek(len(header) + places[key] + start * (len(content) // len(rows)))
                        file.write(content)
                    start += part.tokens.shape[1]
                assert start == length, (name, start, length)
        except OSError as error:
            raise UserError(f"{self.folder / name}: cannot be written: {error.strerror or error}") from None
        self._known.add(name)


def bytes_per_frame(features: Features) -> int:
    """What a frame of such features takes."""
    tensors = [x for x in (features.tokens, features.keys) if x is not None]
    return sum(x[0, 0].numel() * x.element_size() for x in tensors)


def _layout(tensors: dict[str, Tensor], length: int, grid: Grid) -> tuple[bytes, dict[str, int]]:
    """The header of a safetensors file, and where behind it each tensor begins."""
    about: dict[str, object] = {"__metadata__": {"grid": json.dumps(list(grid))}}
    places, end = {}, 0
    for key, rows in tensors.items():
        places[key] = end
        end += length * rows[0].numel() * rows.element_size()
        shape = [length, *rows.shape[1:]]
        about[key] = {"dtype": TYPES[rows.dtype], "shape": shape, "data_offsets": [places[key], end]}
    text = json.dumps(about, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text, places
