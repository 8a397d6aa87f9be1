"""The last reports of a training, as the end of metrics.jsonl has them."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

from vocl.files import MOST, holds, is_number, parse_json

LOSS = re.compile(rb'^\{"step": (\d+), "loss": ([-+.\deE]+|null)', re.MULTILINE)
STAGE = re.compile(rb'"stage": (\d+)')


class RecentReports:
    """The reports in `text`, whose first and last line may lack something."""

    def __init__(self, text: bytes) -> None:
        self._text = text[: text.rfind(b"\n") + 1]  # the last line may be being written

    def last(self, number: int = 5) -> list[dict[str, Any]]:
        """The numbers of the last few."""
        found = []
        for line in self._text.rstrip(b"\n").rsplit(b"\n", number)[-number:]:
            with suppress(ValueError):  # the window's first line may have lost its beginning
                found.append(parse_json(line))
        steps = (report for report in found if holds(report, {"step": int}))
        return [{key: value for key, value in report.items() if is_number(value)} for report in steps]

    def losses(self) -> list[tuple[int, float]]:
        """(step, loss) of those that belong to the last one's stage.

        Read by pattern: a thousand runs have a hundred thousand reports.
        """
        found, stages = LOSS.findall(self._text), STAGE.findall(self._text)
        if stages:  # the window's first line may have lost its beginning
            count = next((i for i, stage in enumerate(reversed(stages)) if stage != stages[-1]), len(stages))
            found = found[-count:]
        pairs = []
        for step, loss in found:
            with suppress(ValueError):
                pairs.append((int(step), float(loss)))
        return [(step, loss) for step, loss in pairs if step < MOST and abs(loss) < MOST]  # see `is_number`
