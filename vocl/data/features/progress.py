"""How far a cache of features is, on stderr: a line written over on a terminal, else one a minute."""

from __future__ import annotations

import sys
import time

from vocl import dist

EVERY_S = (1.0, 60.0)  # on a terminal, in a file


class Progress:
    """Says "<what>: done of all" while it takes long, on the first rank."""

    def __init__(self, what: str) -> None:
        self.what, self.said_at = what, time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        terminal = sys.stderr.isatty()
        due = time.monotonic() - self.said_at > EVERY_S[not terminal]
        if dist.rank() == 0 and (due or (terminal and done == total)):
            self.said_at = time.monotonic()
            end = "\r" if terminal and done < total else "\n"
            print(f"{self.what}: {done} of {total}", end=end, file=sys.stderr, flush=True)
