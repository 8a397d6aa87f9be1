"""`vocl diff A B`: how two runs differ in config, code and scores."""

from __future__ import annotations

from launch.run_states import text_table
from launch.selection.submitted import root_in
from vocl.command_line import defaults
from vocl.command_line.verb import RUN, RUNS, Line, verb, words
from vocl.config.diff import diff
from vocl.errors import UserError, printable
from vocl.rundir.records import Records

PLACES = ("runtime", "cluster", "project")  # where a run is computed, not what


@verb("diff")
@words("A B [runtime.root=PATH]", RUN, names=2, keys=defaults.OF_ROOT, takes=defaults.ROOT, offers=(RUNS,))
def main(line: Line) -> int:
    """Show how two runs differ in config, code and scores; always 0."""
    root, _ = root_in(line.words)
    a, b = (Records(root.find(name)) for name in line.names)
    print(f"A {a.run}\nB {b.run}\n")
    print("\n".join(map(printable, [*_config(a, b), "", *_code(a, b), "", *_scores(a, b)])))
    return 0


def _config(a: Records, b: Records) -> list[str]:
    """Lines per key with other values; how the runs are computed is left out."""
    saved = []
    for records in (a, b):
        config = records.run.config_unchecked()
        if not config:
            raise UserError(f"{records.run.config_path}: cannot be read")
        saved.append({key: value for key, value in config.items() if key not in PLACES})
    first, second = saved
    lines = diff(first, second)
    return ["config:", *(f"  {line}" for line in lines)] if lines else ["config: the same"]


def _code(a: Records, b: Records) -> list[str]:
    """Digest and commit of the code of each one's last attempt."""
    rows = []
    for name in ("code", "commit", "host", "device"):
        values = [str((records.started or {}).get(name) or "unknown") for records in (a, b)]
        rows.append([name, *values, "" if values[0] == values[1] else "differs"])
    return text_table.align(("last attempt", "A", "B", " "), rows)


def _less(a: float | None, b: float | None) -> str:
    return "" if a is None or b is None else f"{a - b:+.4g}"


def _scores(a: Records, b: Records) -> list[str]:
    """Scores side by side, and B - A."""
    found = [records.result.scores if records.result else {} for records in (a, b)]
    rows = []
    for name in dict.fromkeys([*found[0], *found[1]]):
        first, second = (scored.get(name) for scored in found)
        values = ["-" if value is None else f"{value:.4g}" for value in (first, second)]
        rows.append([name, *values, _less(second, first)])
    if not rows:
        return ["scores: none yet"]
    return text_table.align(("score", "A", "B", "B - A"), rows)
