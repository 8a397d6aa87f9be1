"""The last reports of a training, as the end of metrics.jsonl has them."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import Any

from vocl.files import MOST, holds, is_number, open_regular, parse_json
from vocl.rundir.records import PROBE_S, Records
from vocl.rundir.run_dir import METRICS

WINDOW_BYTES = 32768  # of metrics.jsonl: about a hundred reports
LOSS = re.compile(rb'^\{"step": (\d+), "loss": ([-+.\deE]+)', re.MULTILINE)
STAGE = re.compile(rb'"stage": (\d+)')


class RecentReports:
    """The reports at the end of metrics.jsonl, read now: what is kept of ten thousand runs fills memory."""

    def __init__(self, records: Records) -> None:
        text = _end_of_log(records)
        self._text = text[: text.rfind(b"\n") + 1]  # the last line may be being written

    def last(self, *names: str, number: int = 5) -> list[dict[str, Any]]:
        """Of the last few on the training itself the step, and those of `names` that are numbers."""
        found, of_probe = [], f'"{PROBE_S}"'.encode()
        lines = self._text.rstrip(b"\n").rsplit(b"\n", 4 * number)
        for line in [line for line in lines if of_probe not in line][-number:]:
            with suppress(ValueError):  # the window's first line may have lost its beginning
                found.append(parse_json(line))
        steps = (report for report in found if holds(report, {"step": int}))
        asked = ("step", *names)
        return [{key: v for key in asked if is_number(v := report.get(key))} for report in steps]

    def losses(self) -> list[tuple[int, float]]:
        """(step, loss) of those that belong to the last one's stage.

        Read by pattern: a thousand runs have a hundred thousand reports.
        """
        found, stages = LOSS.findall(self._text), STAGE.findall(self._text)
        if stages:  # the window's first line may have lost its beginning
            count = next((i for i, stage in enumerate(reversed(stages)) if stage != stages[-1]), len(stages))
            found = found[-count:]
        pairs = []
        for written, value in found:
            try:
                step, loss = int(written), float(value)
            except ValueError:
                continue
            if step < MOST and -MOST < loss < MOST:  # see `is_number`
                pairs.append((step, loss))
        return pairs


def _end_of_log(records: Records) -> bytes:
    """The first line may lack its beginning."""
    if not records.is_done and METRICS not in records.names:
        return b""
    try:
        with open_regular(records.run.metrics_path) as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - WINDOW_BYTES))
            return log.read()
    except (OSError, ValueError):
        return b""
