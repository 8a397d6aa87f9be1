"""`vocl score`: scores of the masks of any method against the truth, by a named protocol."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from vocl.commands import protocols
from vocl.commands.key_values import SCORE, key_values
from vocl.config.build import build
from vocl.config.folders import packages
from vocl.errors import UserError, printable
from vocl.evaluate.masks.pairs import pairs, read_set
from vocl.evaluate.masks.set_scores import SetScores, score_set
from vocl.files import finite, user_path, write_json


def run(truth: str, labels: str, words: Sequence[str]) -> int:
    """Score the masks `labels` against `truth` as `words` say; prints a table, writes it where asked."""
    project = protocols.project(words)
    node = protocols.chosen(words, project)
    values = key_values(protocols.others(words), SCORE)
    binary, tracking = (_switch(key, values[key]) for key in ("binary", "tracking"))
    protocol = build(node, protocols.KIND, "protocol", packages(project))()
    true, found = (read_set(user_path(path), binary) for path in (truth, labels))
    scored = score_set(pairs(true, found, user_path(labels)), protocol, tracking, _progress(len(true)))
    _show(scored, protocol.name)
    if values["out"]:
        out = user_path(values["out"])
        content = {
            "protocol": {key: value for key, value in node.items() if key != "_target_"},
            "truth": truth,
            "labels": labels,
            "metrics": scored.metrics,
            "rows": scored.rows,
            "notes": scored.notes,
        }
        try:
            write_json(out, finite(content))
        except OSError as error:
            raise UserError(f"out={values['out']}: cannot write there: {error.strerror or error}") from None
        print(out)
    return 0


def _switch(key: str, value: Any) -> bool:
    if value not in (None, "true", "false"):
        raise UserError(f"{key}={value}: choose from true, false")
    return value == "true"


def _progress(number: int) -> Any:
    """Says which video is at work, where a person looks on."""
    told = iter(range(1, number + 1))

    def tell(name: str) -> None:
        if sys.stderr.isatty():
            print(printable(f"\r{next(told)} of {number}: {name[:40]:40}"), end="", file=sys.stderr)

    return tell


def _show(scored: SetScores, protocol: str) -> None:
    """Print a line for each score, and what a reader must know."""
    if sys.stderr.isatty():
        print(file=sys.stderr)
    videos = f"{len(scored.rows)} video{'s' if len(scored.rows) != 1 else ''}"
    print(f"protocol {protocol}, {videos}, {sum(row['num_frames'] for row in scored.rows)} frames")
    width = max(map(len, scored.metrics))
    for name, value in scored.metrics.items():
        measure = scored.measures.get(name)
        arrow = " \N{DOWNWARDS ARROW}" if measure and measure.higher_is_better is False else ""
        print(f"  {name:{width}}  {'-' if value != value else f'{value:.4f}'}{arrow}")
    for note in scored.notes:
        print(printable(f"note: {note}"))
