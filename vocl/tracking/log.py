"""What runs and their jobs say as they go: lines of a time stamp, a level and a message; on a terminal the
message alone. Modules log by `logging.getLogger(__name__)`, and here is said where that goes."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vocl.errors import UserError, printable
from vocl.files import open_plain

PACKAGES = ("vocl", "launch")  # of these also what is no warning is told
UNSHOWN = {"is_unshown": True}  # `extra` of a message that its command prints on stderr itself
STAMP = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (?:DEBUG|INFO|WARNING|ERROR|CRITICAL) ")


def configure() -> None:
    """Have this process tell on stderr what it logs: in short on a terminal, else with time and level."""
    for package in PACKAGES:
        logging.getLogger(package).setLevel(logging.INFO)
    root = logging.getLogger()
    if not any(isinstance(handler, _Stderr) for handler in root.handlers):
        root.addHandler(_Stderr())


@contextmanager
def kept(path: Path) -> Iterator[None]:
    """Within the block what is logged is added to the file `path` as well, unless stderr is that file: of
    a job its agent has seen to that. Raises `UserError` where the file cannot be opened."""
    try:
        file = open_plain(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written (runtime.root): {error.strerror or error}") from None
    with file:
        handler = _File(file.fileno())
        if not _is_stderr(file.fileno()):
            logging.getLogger().addHandler(handler)
        try:
            yield
        finally:
            logging.getLogger().removeHandler(handler)


def unstamped(line: str) -> str:
    """A line of a log without its time and level. What was printed has none, nor have older logs."""
    return STAMP.sub("", line, count=1) if STAMP.match(line) else line


class _Stamped(logging.Formatter):
    """A record as one line, whoever chose the names in it; a traceback follows in lines of its own."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record))


class _Short(logging.Formatter):
    """The message alone; a warning is called a note."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(f"{'note: ' if record.levelno == logging.WARNING else ''}{record.message}")


class _Stderr(logging.Handler):
    """Writes to whatever is stderr at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "is_unshown", False):
            return
        form = _Short() if sys.stderr.isatty() else _Stamped()
        with suppress(OSError):  # a reader who has left
            print(form.format(record), file=sys.stderr, flush=True)


class _File(logging.Handler):
    """Adds a line to an open file by one write each. A full disk costs lines, never the run."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.descriptor, self.form = descriptor, _Stamped()

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):
            os.write(self.descriptor, f"{self.form.format(record)}\n".encode(errors="replace"))


def _is_stderr(descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.fstat(2))
    except OSError:  # it is closed
        return False
