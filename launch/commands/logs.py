"""`vocl logs RUN`: what a run logged and printed."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from launch.selection.submitted import root_in
from vocl.errors import STEERING, UserError
from vocl.files import open_regular

LINES = 30
POLL_S = 0.5
BLOCK = 65536
KEPT = re.compile(rf"(\x1b\[[\d;]*m|[\t\n\r])|{STEERING.pattern}")  # colours, lines, bars


def main(arguments: Sequence[str]) -> int:
    """`vocl logs RUN [-n LINES] [-f] [runtime.root=PATH]`: the end of its log; -f goes on with it until
    Ctrl-C, also where the log does not exist yet. Returns 0."""
    root, rest = root_in(arguments)
    number, rest = _number(rest)
    follow = any(a in ("-f", "--follow") for a in rest)
    words = [a for a in rest if a not in ("-f", "--follow")]
    if len(words) != 1 or words[0].startswith("-"):
        given = " ".join(["vocl logs", *words])
        raise UserError(f"{given}: give one run id (or its beginning), and -n N or -f")
    path = root.find(words[0]).log_path
    if not path.is_file() and not follow:
        raise UserError(f"{path}: not there: the run has not begun")
    try:
        at = _print_end(path, number)
        if follow:
            for block in grow(path, at):
                _emit(block)
    except (KeyboardInterrupt, BrokenPipeError):
        sys.stderr.flush()
    return 0


def grow(path: Path, at: int) -> Iterator[bytes]:
    """What is added to a file beyond byte `at`, as it comes; from its beginning if it gets shorter."""
    while True:
        try:
            with open_regular(path, links=False) as log:
                at = at if log.seek(0, os.SEEK_END) >= at else 0
                log.seek(at)
                while block := log.read(BLOCK):
                    at += len(block)
                    yield block
        except FileNotFoundError:
            at = 0
        time.sleep(POLL_S)


def _print_end(path: Path, number: int) -> int:
    """Print the last lines; returns where the file ended."""
    try:
        with open_regular(path, links=False) as log:
            size = at = log.seek(0, os.SEEK_END)
            end = b""
            while at > 0 and end.count(b"\n") <= number:
                begin = max(0, at - BLOCK)
                log.seek(begin)
                end, at = log.read(at - begin) + end, begin
    except FileNotFoundError:
        return 0
    _emit(b"".join(end.splitlines(keepends=True)[-number:] if number else ()))
    return size


def _emit(block: bytes) -> None:
    """Print a part of a log, without what would do more to a terminal than show it."""
    text = block.decode(errors="replace")
    sys.stdout.write(KEPT.sub(lambda found: found[1] or "\N{REPLACEMENT CHARACTER}", text))
    sys.stdout.flush()


def _number(arguments: Sequence[str]) -> tuple[int, list[str]]:
    """The value of -n N or -nN, and the other arguments."""
    rest, number, given = [], str(LINES), iter(arguments)
    for argument in given:
        if argument == "-n":
            number = next(given, "")
        elif argument.startswith("-n"):
            number = argument[2:]
        else:
            rest.append(argument)
    if not number.isdigit():
        raise UserError(f"-n {number}: expected a number of lines")
    return int(number), rest
