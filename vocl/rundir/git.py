"""What git says of a folder's files. Hooks, monitors and differs that a repository names are not run."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from vocl.stop import shielded

TIMEOUT_S = 10.0
# Programs that a repository may name for git to start, and what would have git look elsewhere
SAFE = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "--no-optional-locks")
AS_TEXT = ("--no-ext-diff", "--no-textconv", "--no-color")


class GitError(Exception):
    """git did not answer; the message is its own first line."""


def call(folder: Path, *arguments: str) -> str:
    """What `git ARGUMENTS` prints in `folder`. Raises `GitError`: outside a checkout, in one that is
    another user's (unless git's `safe.directory` names it), without git, after `TIMEOUT_S`."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    command = ["git", *SAFE, "-C", str(folder), *arguments]
    try:
        with shielded():  # a signal to the whole process group asks the run to stop, not git
            done = subprocess.run(
                command,
                env=environment | {"LC_ALL": "C.UTF-8"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=TIMEOUT_S,
            )
    except subprocess.TimeoutExpired:
        raise GitError(f"git {arguments[0]}: no answer within {TIMEOUT_S:.0f} s") from None
    except OSError as error:
        raise GitError(f"git: {error.strerror}") from None
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise GitError(lines[0] if lines else f"git {arguments[0]}: exit code {done.returncode}")
    return os.fsdecode(done.stdout)


def is_checkout(folder: Path) -> bool:
    """Whether `folder` lies in a checkout, whether or not git would speak of it."""
    return any((place / ".git").exists() for place in (folder, *folder.parents))


def tracked(folder: Path) -> frozenset[str]:
    """Names, relative to `folder`, of the files in it that git tracks. Raises `GitError`."""
    return frozenset(name for name in call(folder, "ls-files", "-z").split("\0") if name)


def changed(folder: Path, *places: str) -> list[str]:
    """Names of the files at `places` in `folder` that differ from the commit. Raises `GitError`."""
    found = call(folder, "diff", *AS_TEXT, "--relative", "--name-only", "-z", "HEAD", "--", *places)
    return [name for name in found.split("\0") if name]


def diff(folder: Path, *names: str) -> str:
    """How the files `names` in `folder` differ from the commit. Raises `GitError`."""
    literal = ("--literal-pathspecs",)
    found = call(folder, *literal, "diff", *AS_TEXT, "--relative", "HEAD", "--", *names) if names else ""
    return os.fsencode(found).decode(errors="replace")
