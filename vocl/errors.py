"""The one exception class that means "what you wrote or gave us is wrong"."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterable
from typing import Any

EXIT_USER = 2  # of a command that stopped at the user's mistake
STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_BRIEF = 60  # characters of a value in a message


def say_everything() -> None:
    """Have the output of this program show what its encoding lacks as an escape: names of users may have
    any letter, a terminal or a pipe may be ASCII's."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def printable(text: str) -> str:
    """`text` without line ends, without what steers a terminal or cannot be written to a file: names and
    messages in records are other people's."""
    return STEERING.sub(" ", text).encode(errors="replace").decode()


class UserError(ValueError):
    """A mistake in a config, a command or an input file.

    The message is one line: the path of the key or file, what is wrong with it, and the valid
    choices. Commands print it alone on stderr and leave with exit code 2; any other exception is
    a crash (exit code 1, with a record).
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(STEERING.sub(" ", message).split()))


class RunIsTaken(UserError):
    """Another process works on the run: nothing is wrong with the run, and later it may be free."""


def brief(value: object) -> str:
    """`value` for a message, cut where it is long."""
    text = str(value)
    return text if len(text) <= _BRIEF else f"{text[: _BRIEF - 3]}..."


class NonFinite(Exception):
    """A step gave a loss or gradient that is not finite. `record` says where; nothing was applied."""

    def __init__(self, step: int, record: dict[str, Any]) -> None:
        super().__init__(f"step {step}: loss or gradient is not finite")
        self.step, self.record = step, record


def near(name: str, choices: Iterable[str], path: str = "") -> str:
    """How a message ends that `name` is none of `choices`: with the one that looks most like it, shown
    behind `path`."""
    from difflib import get_close_matches

    found = get_close_matches(name, list(choices), 1)
    return f"; did you mean {path}{found[0]}?" if found else ""


class UnknownKey(UserError):
    """A key of a config that nothing takes: `path` is dotted; `expected`: the keys that would be taken."""

    def __init__(self, path: str, expected: tuple[str, ...]) -> None:
        choices = ", ".join(expected) or "none"
        meant = near(path.rpartition(".")[2], expected)
        super().__init__(f"{path}: unknown key, choose from {choices}{meant}")
        self.path, self.expected = path, expected


class UnknownChoice(UserError):
    """An option that a config group, or a folder of conf/, does not have: `group` and `name`."""

    def __init__(self, group: str, name: str, choices: Iterable[str]) -> None:
        known = list(choices)
        told = ", ".join(known) or "none"
        super().__init__(f"{group}={name}: no such choice, choose from {told}{near(name, known)}")
        self.group, self.name = group, name
