"""What a run leaves behind beside its weights: where it ran, on what code, how each attempt ended."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from vocl import git, recorded, source
from vocl.config import packages
from vocl.files import finite, json_or_none, write_bytes, write_json

REPOSITORY = Path(__file__).resolve().parent.parent
SNAPSHOT = "snapshot.json"  # lies in a copy of the code, and says what it is a copy of
CODE = ("vocl", "launch", "hydra_plugins", "pyproject.toml")
RESERVE_BYTES = 16384  # given back when the disk is full, so that the record of it can be written
END = re.compile(r"^\d{4}-(done|stopped|failed|killed)\.json$")
LIBRARIES = ("torch", "timm", "numpy", "hydra-core", "einops", "torchmetrics", "decord")


@functools.cache
def code_digest(project: str | None) -> str:
    """Digest of the code that decides results: the Python files of vocl/, launch/, hydra_plugins/, and of
    the packages of the folder `project`, and pyproject.toml.

    A snapshot has the digest of what it was taken of: both leave out what is hidden or named like a
    secret, and a snapshot is refused where a module is a link or too large to be copied.
    """
    digest = hashlib.blake2b(digest_size=8)
    places = [(REPOSITORY, REPOSITORY / name) for name in CODE]
    if project is not None:
        own = [folder for name, folder in packages(project).items() if name != "vocl"]
        places += [(folder.parent, folder) for folder in sorted(own)]
    for root, path in places:
        for file in source.modules(path) if path.is_dir() else [path]:
            if file.is_file():
                digest.update(f"{file.relative_to(root)}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def commit() -> str | None:
    """The checkout's commit, with a + when files differ from it; None outside a checkout, and, once that is
    said, where git does not answer: in another user's checkout, say.

    In a snapshot: that of the checkout it was taken of.
    """
    if (REPOSITORY / SNAPSHOT).is_file():
        return (json_or_none(REPOSITORY / SNAPSHOT) or {}).get("commit")
    try:
        head = git.call(REPOSITORY, "rev-parse", "HEAD").strip()
        return head + ("+" if git.call(REPOSITORY, "status", "--porcelain", "--untracked-files=no") else "")
    except git.GitError as error:
        if git.is_checkout(REPOSITORY):
            why = f"git does not answer: {error}; no commit and no changes are on record"
            print(f"note: {REPOSITORY}: {why}", file=sys.stderr)
        return None


def environment(device: str, threads: int, world: int, project: str | None) -> dict[str, Any]:
    """Machine, libraries and code of this process."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "imported_from": str(REPOSITORY),
        "machine": platform.machine(),
        "host": platform.node(),
        "device": device,
        "threads": threads,
        "world": world,
        "libraries": versions,
        "code": code_digest(project),
        "commit": commit(),
        "command": sys.argv,
    }


class Attempts:
    """The executions of one run, each with a start and an end event in files of their own.

    One file per event: appends to a shared file from two hosts can tear. Rank 0 alone starts and
    ends attempts; another rank leaves a record only of its own failure.
    """

    def __init__(self, folder: Path) -> None:
        self.run, self.events = folder, folder / "events"
        self.began = time.time()
        numbers = [int(path.name.partition("-")[0]) for path in self.events.glob("[0-9]*-*.json")]
        self.number = max(numbers, default=0) + 1

    def start(self, step: int, environment: dict[str, Any]) -> None:
        """Record that this attempt starts at `step`; keeps some disk for the record of its end."""
        self._bury_killed()
        event = {"attempt": self.number, "time": self.began, "step": step, "pid": os.getpid(), **environment}
        write_json(self.events / f"{self.number:04d}-start.json", event)
        write_bytes(self._reserve, bytes(RESERVE_BYTES))

    def end(self, outcome: str, rank: int = 0, **facts: Any) -> Path:
        """Record how this attempt ended: done, stopped, or a failure with its facts."""
        self._reserve.unlink(missing_ok=True)
        name = f"{self.number:04d}-{outcome}{f'-rank{rank}' if rank else ''}.json"
        now = time.time()
        event = {"attempt": self.number, "time": now, "outcome": outcome, "wall_s": now - self.began, **facts}
        write_json(self.events / name, finite(event, spell=repr))
        return self.events / name

    def spent(self) -> tuple[float, float]:
        """(seconds, GPU hours) of all attempts that have ended, this one included once it has.

        One that was killed counts up to its last heartbeat.
        """
        wall_s = gpu_s = 0.0
        for path in self.events.glob("*-start.json"):
            ends = [recorded.event(p) or {} for p in self._ends() if p.name[:4] == path.name[:4]]
            seconds = max((end.get("wall_s") or 0.0 for end in ends), default=0.0)
            wall_s += seconds
            start = recorded.event(path)
            gpu_s += seconds * (start["world"] if start and start["device"].startswith("cuda") else 0)
        return wall_s, gpu_s / 3600

    @property
    def _reserve(self) -> Path:
        return self.events / ".reserve"

    def _ends(self) -> list[Path]:
        return [p for p in self.events.glob("*.json") if END.match(p.name)]

    def _bury_killed(self) -> None:
        """Give earlier attempts that left no end event one, from the last heartbeat."""
        last = recorded.heartbeat(self.run) or {}
        ended = {path.name[:4] for path in self._ends()}
        for start in self.events.glob("*-start.json"):
            event = recorded.event(start)
            if start.name[:4] not in ended and event:
                number, began = event["attempt"], event["time"]
                seen = max(last["time"], began) if last.get("attempt") == number else began
                event = {"attempt": number, "time": seen, "outcome": "killed", "wall_s": seen - began}
                write_json(self.events / f"{start.name[:4]}-killed.json", event)
