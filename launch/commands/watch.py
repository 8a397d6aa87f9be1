"""`vocl status --watch`: the board kept up to date, without asking SLURM more than it changes."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from launch.commands.status import HEADERS, PATIENCE_S, Board, take
from launch.run_states import text_table
from launch.run_states.states import LIVE
from launch.selection.selector import ChosenRuns
from launch.slurm.job_states import SchedulerAnswer, ask
from vocl.rundir.claims import Claim
from vocl.rundir.results_root import ResultsRoot

REDRAW_S = 3.0
FIRST_S, LAST_S = 10.0, 60.0  # between two questions to SLURM
URGENCY = ("failed", "blocked", "interrupted", "running", "queued", "waiting", "absent", "done")


class Patient:
    """Asks SLURM at most every ten seconds, and half as often after each answer that says nothing new,
    down to once a minute. News in the records bring it back to ten seconds."""

    def __init__(self) -> None:
        self.every_s, self.asked_at = FIRST_S, -LAST_S
        self.view: SchedulerAnswer | None = None
        self.known: list[object] = []

    def __call__(self, root: ResultsRoot, unclear: list[Claim]) -> SchedulerAnswer:
        """The scheduler's answer, perhaps an earlier one."""
        facts: list[object] = [(c.run, c.number, c.start, c.end) for c in unclear]
        if facts != self.known:
            self.known, self.every_s = facts, FIRST_S
        if self.view is not None and time.monotonic() - self.asked_at < self.every_s:
            return self.view
        view = ask(root, unclear, PATIENCE_S)
        news = self.view is None or (view.queued, view.ended) != (self.view.queued, self.view.ended)
        self.every_s = FIRST_S if news and not view.trouble else min(2 * self.every_s, LAST_S)
        self.asked_at, self.view = time.monotonic(), view
        return view


def watch(chosen: ChosenRuns) -> int:
    """Until q or Ctrl-C; where the output is no terminal, a board per change until nothing is live."""
    try:
        return _on_terminal(chosen) if sys.stdout.isatty() else _in_lines(chosen)
    except KeyboardInterrupt:
        return 0


def _in_lines(chosen: ChosenRuns) -> int:
    patient, before = Patient(), None
    while True:
        picture = take(chosen, patient)
        if picture.lines != before:
            before = picture.lines
            text_table.write([*before, ""])
        if not any(state.name in LIVE for state in picture.states.values()):
            return 0
        time.sleep(REDRAW_S)


def _on_terminal(chosen: ChosenRuns) -> int:
    from rich.live import Live
    from rich.text import Text

    patient = Patient()
    with _keys(), Live(screen=True, auto_refresh=False) as live:
        while True:
            lines = fit(take(chosen, patient), live.console.height, live.console.width)
            live.update(Text.from_ansi("\n".join(map(text_table.paint, lines)), no_wrap=True), refresh=True)
            if _quit(REDRAW_S):
                return 0


def fit(picture: Board, height: int, width: int) -> list[str]:
    """The board in a terminal's size: where it is longer, the runs that matter now come first."""
    lines = picture.lines
    if len(lines) > height - 1:
        warnings = picture.warnings[: max(1, height // 4)]
        rows = sorted(
            (row for rows in picture.groups.values() for row in rows),
            key=lambda row: URGENCY.index(row[HEADERS.index("state")]),
        )
        room = max(1, height - len(warnings) - 5)
        left_out = f"... and {len(rows) - room} more" if len(rows) > room else ""
        lines = [*text_table.align(HEADERS, rows[:room]), left_out, picture.summary, *warnings]
    return [text_table.cut(line, width) for line in (*lines, f"{time.strftime('%X')}  q: leave")]


@contextmanager
def _keys() -> Iterator[None]:
    """Within the block keys arrive at once and unseen."""
    if not sys.stdin.isatty():
        yield
        return
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _quit(seconds: float) -> bool:
    """Wait for `seconds`, or until q is pressed."""
    if not sys.stdin.isatty():
        time.sleep(seconds)
        return False
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if select.select([sys.stdin], [], [], left)[0] and os.read(sys.stdin.fileno(), 1) in (b"q", b"Q"):
            return True
    return False
