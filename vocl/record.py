"""What a run leaves behind beside its weights: where it ran, on what code, how each attempt ended."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from vocl.files import write_json

REPOSITORY = Path(__file__).resolve().parent.parent
CODE = ("vocl", "launch", "hydra_plugins", "pyproject.toml")
LIBRARIES = ("torch", "timm", "numpy", "hydra-core", "einops", "torchmetrics", "decord")


@functools.cache
def code_digest() -> str:
    """Digest of the code that decides results: vocl/, launch/, hydra_plugins/ and pyproject.toml."""
    digest = hashlib.blake2b(digest_size=8)
    for name in CODE:
        path = REPOSITORY / name
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            if file.is_file():
                digest.update(f"{file.relative_to(REPOSITORY)}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def commit() -> str | None:
    """The checkout's commit, with a + when files differ from it; None outside a checkout."""
    try:
        head = _git("rev-parse", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(REPOSITORY), *arguments], capture_output=True, text=True, timeout=10, check=True
    )
    return done.stdout.strip()


def environment(device: str, threads: int, world: int) -> dict[str, Any]:
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
        "machine": platform.machine(),
        "host": platform.node(),
        "device": device,
        "threads": threads,
        "world": world,
        "libraries": versions,
        "code": code_digest(),
        "commit": commit(),
        "command": sys.argv,
    }


class Attempts:
    """The executions of one run, each with a start and an end event in files of their own.

    One file per event: appends to a shared file from two hosts can tear.
    """

    def __init__(self, folder: Path) -> None:
        self.run, self.events = folder, folder / "events"
        self.began = time.time()
        self.number = len(list(self.events.glob("*-start.json"))) + 1 if self.events.is_dir() else 1

    def start(self, step: int, environment: dict[str, Any]) -> None:
        """Record that this attempt starts at `step`."""
        self._bury_killed()
        event = {"attempt": self.number, "time": self.began, "step": step, "pid": os.getpid(), **environment}
        write_json(self.events / f"{self.number:04d}-start.json", event)

    def end(self, outcome: str, **facts: Any) -> None:
        """Record how this attempt ended: done, stopped, or a failure with its facts."""
        event = {"attempt": self.number, "time": time.time(), "outcome": outcome, "wall_s": time.time() - self.began}
        write_json(self.events / f"{self.number:04d}-{outcome}.json", event | facts)

    def wall_s(self) -> float:
        """Seconds of all attempts up to now; one that was killed counts up to its last heartbeat."""
        ends = [p for p in self.events.glob("*.json") if not p.name.endswith("-start.json")]
        return time.time() - self.began + sum(json.loads(p.read_text())["wall_s"] for p in ends)

    def _bury_killed(self) -> None:
        """Give earlier attempts that left no end event one, from the last heartbeat."""
        heartbeat = self.run / "heartbeat.json"
        last = json.loads(heartbeat.read_text()) if heartbeat.is_file() else {}
        for start in self.events.glob("*-start.json"):
            number = int(start.name.split("-")[0])
            if number != self.number and len(list(self.events.glob(f"{number:04d}-*.json"))) == 1:
                began = json.loads(start.read_text())["time"]
                seen = last["time"] if last.get("attempt") == number else began
                event = {"attempt": number, "time": seen, "outcome": "killed", "wall_s": max(seen - began, 0.0)}
                write_json(self.events / f"{number:04d}-killed.json", event)
