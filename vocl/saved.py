"""Names of checkpoint files, `<step>-<digest>.pt`, and what they tell without loading one (no torch)."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

NAME = re.compile(r"(\d{9})-([0-9a-f]{16})\.pt")
DIGEST = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint file: the world before step `step`."""

    path: Path
    step: int
    digest: str

    @property
    def is_intact(self) -> bool:
        """Whether the content has the digest that the name tells. Raises `OSError` if it is gone."""
        return digest_of(self.path.read_bytes()) == self.digest

    @property
    def frozen(self) -> str | None:
        """Digest of the frozen weights that belong to it; None without any, or in a foreign file.

        Raises `OSError` if it is gone.
        """
        import zipfile  # here: most of who imports this needs the names alone, and at once

        try:
            with zipfile.ZipFile(self.path) as archive:
                (name,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
                values = _values(archive.read(name))
        except (zipfile.BadZipFile, ValueError, RuntimeError):
            return None
        after = [value for key, value in pairwise(values) if key == "frozen"]
        return next((value for value in after if DIGEST.fullmatch(str(value))), None)


def _values(pickled: bytes) -> list[Any]:
    """The constants of a pickle in their order, read off its opcodes: nothing is executed."""
    import pickletools

    values, memo = [None], {}
    for opcode, argument, _ in pickletools.genops(pickled):
        if "PUT" in opcode.name:
            memo[argument] = values[-1]
        else:
            values.append(memo.get(argument) if "GET" in opcode.name else argument)
    return values


def name_of(step: int, digest: str) -> str:
    """The file's name."""
    return f"{step:09d}-{digest}.pt"


def frozen_name(digest: str) -> str:
    """Name of the file beside the checkpoints that holds the frozen weights of that digest."""
    return f"frozen-{digest}.safetensors"


def digest_of(content: bytes | memoryview) -> str:
    """The digest by which a file betrays that it is torn or damaged."""
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def checkpoints(folder: Path) -> list[Checkpoint]:
    """Those in a run's folder of checkpoints by step, newest first, unchecked."""
    try:
        found = [NAME.fullmatch(name) for name in os.listdir(folder)]
    except OSError:
        return []
    files = [Checkpoint(folder / m[0], int(m[1]), m[2]) for m in found if m]
    return sorted(files, key=lambda file: file.step, reverse=True)


def newest_step(folder: Path) -> int | None:
    """Step of the newest, unchecked; None without one."""
    return next((file.step for file in checkpoints(folder)), None)
