"""Names of checkpoint files, `<step>-<digest>.pt`, and what they tell without opening one (no torch)."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from vocl.files import read_bytes

NAME = re.compile(r"(\d{9})-([0-9a-f]{16})\.pt")

BEST = "best-"


@dataclass(frozen=True)
class CheckpointFile:
    """A checkpoint file: the state of a training before step `step`."""

    path: Path
    step: int
    digest: str

    @property
    def is_intact(self) -> bool:
        """Whether the content has the digest that the name tells. Raises `OSError` if it is gone."""
        return digest_of(read_bytes(self.path)) == self.digest


def name_of(step: int, digest: str) -> str:
    """The file's name."""
    return f"{step:09d}-{digest}.pt"


def best_name(step: int, digest: str) -> str:
    """Name of the file beside the checkpoints that holds the state of the best probe; none of them."""
    return f"{BEST}{name_of(step, digest)}"


def frozen_name(digest: str) -> str:
    """Name of the file beside the checkpoints that holds the frozen weights of that digest."""
    return f"frozen-{digest}.safetensors"


def is_frozen_intact(path: Path) -> bool:
    """Whether a file of frozen weights has the digest that its name tells. Raises `OSError` if it is gone."""
    return path.name == frozen_name(digest_of(read_bytes(path)))


def digest_of(content: bytes | memoryview) -> str:
    """The digest in a file's name: one whose content has another is torn or damaged."""
    import hashlib  # boards do without

    return hashlib.blake2b(content, digest_size=8).hexdigest()


def checkpoint_files(folder: Path, before: str = "") -> list[CheckpointFile]:
    """Those in a run's folder of checkpoints by step, newest first, unchecked; `before`: what their names
    begin with."""
    try:
        names = [name for name in os.listdir(folder) if name.startswith(before)]
    except OSError:
        return []
    found = [NAME.fullmatch(name, len(before)) for name in names]
    files = [CheckpointFile(folder / f"{before}{m[0]}", int(m[1]), m[2]) for m in found if m]
    return sorted(files, key=lambda file: file.step, reverse=True)
