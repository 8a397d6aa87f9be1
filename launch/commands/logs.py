"""`vocl logs RUN`: what a run logged and printed."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click

from launch.selection.submitted import root_in
from vocl.command_line import defaults
from vocl.command_line.verb import RUN, RUNS, Line, option, verb, words
from vocl.errors import STEERING, UserError
from vocl.files import open_regular

LINES = 30
POLL_S = 0.5
BLOCK = 65536
KEPT = re.compile(rf"(\x1b\[[\d;]*m|[\t\n\r])|{STEERING.pattern}")  # colours, lines, bars


@verb("logs")
@words("RUN [runtime.root=PATH]", RUN, names=1, keys=defaults.OF_ROOT, takes=defaults.ROOT, offers=(RUNS,))
@option("-n", "--lines", type=click.IntRange(min=0), default=LINES, help="So many of its last lines.")
@option("-f", "--follow", is_flag=True, help="Go on until Ctrl-C, also where there is no log yet.")
def main(line: Line, lines: int, follow: bool) -> int:
    """Print the end of what a run printed; returns 0."""
    root, _ = root_in(line.words)
    path = root.find(line.names[0]).log_path
    if not path.is_file() and not follow:
        raise UserError(f"{path}: not there: the run has not begun")
    try:
        at = _print_end(path, lines)
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
