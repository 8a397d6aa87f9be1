"""What the files of runs beside their results say, as far as a table asks; remembered while they stay as
they are (see `launch.run_states.remembered`).

Kept small, since tables hold it of ten thousand runs: settings as the text that most runs share, scores of
videos as packed numbers.
"""

from __future__ import annotations

import base64
import functools
import json
import math
import os
import struct
import sys
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from launch.run_states.remembered import Mark, mark, remembered
from launch.selection.known_configs import CODE as OF_CONFIGS
from vocl.files import Kinds, holds, is_number, is_there
from vocl.rundir.records import Records
from vocl.rundir.result import which_of
from vocl.rundir.results_root import ResultsRoot
from vocl.rundir.run_dir import UNREADABLE, Remarks, RunDir

CODE = (*OF_CONFIGS, Path(__file__).parent)  # reports are read in today's keys
BESIDE: Kinds = {"tags": list, "note": str, "reports": dict, "lost_gpu_hours": (int, float), "whole": bool}
Asked = tuple[str, str]  # the id of an evaluation, and a score in its rows


@dataclass(frozen=True, slots=True)
class Report:
    """The record of an evaluation of the trained model: its settings in today's keys, the digest of its
    code."""

    settings: str
    code: str | None

    @property
    def eval(self) -> dict[str, Any]:
        """Its settings, which nobody changes."""
        return _settings(self.settings)


@dataclass(frozen=True, slots=True)
class Beside:
    """What lies beside the result of a run; `reports` by the ids of evaluations, `lost_gpu_hours` of a
    finished one."""

    remarks: Remarks = field(default_factory=Remarks)
    reports: Mapping[str, Report] = field(default_factory=dict)
    lost_gpu_hours: float = 0.0

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Self:
        """From what is remembered."""
        reports = {key: Report(sys.intern(text), code) for key, (text, code) in content["reports"].items()}
        return cls(Remarks(tuple(content["tags"]), content["note"]), reports, content["lost_gpu_hours"])


@functools.lru_cache(maxsize=1024)  # the runs of a table are scored alike
def _settings(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text)
    return found


def beside(root: ResultsRoot, runs: Mapping[str, Records]) -> dict[str, Beside]:
    """What lies beside the results of `runs`, by their ids."""
    marks = {run: mark(*_paths(records)) for run, records in runs.items()}
    found = remembered(root, "reports", CODE, marks, lambda run: _read(runs[run]), _is_whole)
    return {run: Beside.of(content) for run, content in found.items()}


def _evaluations(records: Records) -> list[str]:
    return [entry["eval_id"] for entry in records.result.evals.values()] if records.result else []


def _lost(records: Records) -> list[str]:
    """The records of lost attempts of a finished run; none are looked for where there was one attempt."""
    return records.lost_events if records.result and records.result.attempts != 1 else []


def _paths(records: Records) -> list[str]:
    run = records.run
    reports = map(run.report_path, _evaluations(records))
    return [run.remarks_path, *reports, *(f"{run.events}/{name}" for name in _lost(records))]


def _read(records: Records) -> dict[str, Any]:
    run, reports, whole = records.run, {}, True
    for each in _evaluations(records):
        found = run.report(each)
        whole &= found is not None or not is_there(run.report_path(each))
        if found is not None and not which_of(found.get("checkpoint")):
            code = found.get("code")
            reports[each] = [json.dumps(found["eval"]), code if isinstance(code, str) else None]
    whole &= all(records.event(name) is not None for name in _lost(records))
    remarks = run.remarks() if is_there(run.remarks_path) else Remarks()  # most have none
    return {
        "tags": list(remarks.tags),
        "note": remarks.note,
        "reports": reports,
        "lost_gpu_hours": records.lost_gpu_hours if _lost(records) else 0.0,
        "whole": whole and remarks != UNREADABLE,  # else a file server may have failed for a moment
    }


def _is_whole(content: Any) -> bool:
    return holds(content, BESIDE) and content["whole"] and all(map(_is_report, content["reports"].values()))


def _is_report(content: Any) -> bool:
    return isinstance(content, list) and len(content) == 2 and isinstance(content[0], str)


# ---------------------------------------------------------------------------------- scores of videos


@dataclass(frozen=True, slots=True)
class OfVideos:
    """A score of each video of an evaluation, packed; not a number where it is undefined."""

    names: str  # of the videos, as JSON
    values: str

    def unpacked(self) -> dict[str, float]:
        """By video, those that are defined."""
        names, packed = _names(self.names), base64.b64decode(self.values)
        values = struct.unpack(f"<{len(names)}d", packed)
        return {name: value for name, value in zip(names, values, strict=True) if not math.isnan(value)}


@functools.lru_cache(maxsize=64)  # the runs of a column have the same videos
def _names(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text))


def of_videos(
    root: ResultsRoot, table: str, asked: Mapping[RunDir, Iterable[Asked]]
) -> dict[str, dict[Asked, OfVideos]]:
    """The scores of videos that are `asked` of runs of `root`, by their ids, for `table`; those that are
    kept."""
    wanted = {run.id: (run, sorted(set(each))) for run, each in asked.items()}
    marks = {run: _mark_of_rows(*own) for run, own in wanted.items()}
    name = f"videos-{zlib.crc32(os.fsencode(table)):08x}"
    found = remembered(root, name, CODE, marks, lambda run: _packed(*wanted[run]), _is_packed)
    return {
        run: {(each, score): OfVideos(sys.intern(names), values) for each, score, names, values in lines}
        for run, (_, lines) in found.items()
    }


def _mark_of_rows(run: RunDir, asked: Sequence[Asked]) -> Mark | None:
    """What changes where the files do, or what is asked of them."""
    files = mark(*(run.rows_path(each) for each in dict.fromkeys(each for each, _ in asked)))
    return None if files is None else [*files, zlib.crc32(json.dumps(asked).encode())]


def _packed(run: RunDir, asked: Sequence[Asked]) -> list[Any]:
    """Whether the files could be read, and evaluation, score, videos and values for each that is asked."""
    lines, whole = [], True
    for evaluation in dict.fromkeys(each for each, _ in asked):
        rows = run.rows(evaluation)
        whole &= bool(rows) or not is_there(run.rows_path(evaluation))
        names = json.dumps([row["video"] for row in rows])
        for score in (score for each, score in asked if each == evaluation and rows):
            found = (row.get(score) for row in rows)
            values = [value if is_number(value) else math.nan for value in found]
            lines.append([evaluation, score, names, _text(values)])
    return [whole, lines]


def _text(values: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(values)}d", *values)).decode()


def _is_packed(content: Any) -> bool:
    if not isinstance(content, list) or len(content) != 2 or content[0] is not True:
        return False
    lines = content[1] if isinstance(content[1], list) else [None]
    return all(isinstance(e, list) and len(e) == 4 and all(isinstance(w, str) for w in e) for e in lines)
