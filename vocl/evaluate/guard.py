"""Running one evaluation so that its failure is its own: neither the training's nor that of the others."""

from __future__ import annotations

import json
import math
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from vocl import dist
from vocl.errors import UserError
from vocl.files import finite, is_number
from vocl.interface import Evaluation, Measure, Report, Subject, VideoModel
from vocl.stop import Stopped


@dataclass(frozen=True)
class Failure:
    """What went wrong in an evaluation: one line, and the traceback."""

    kind: str
    message: str
    traceback: str

    @property
    def line(self) -> str:
        """The failure in one line; a mistake of the user without the name of its class."""
        text = " ".join(self.message.split())
        return text if self.kind == UserError.__name__ else f"{self.kind}: {text}".rstrip(": ")


class _Elsewhere(Exception):
    """It has failed on another rank."""


def run_guarded(evaluation: Evaluation, subject: Subject, seed: int) -> Report | Failure:
    """The report of `evaluation`, in plain numbers, or why there is none; the same on every rank.

    Ranks agree at each `advance` and at the end, so that one whose evaluation has failed does not leave the
    others waiting. `Stopped` passes: it is no failure. Within, the model is in eval mode and its weights
    are frozen, and torch's global generator starts from `seed`.
    """

    def advance() -> None:
        if dist.any_of(False):
            raise _Elsewhere
        subject.advance()

    report, failure = None, None
    try:
        with frozen(subject.model), _seeded(seed, subject.device):
            report = _plain(evaluation.run(replace(subject, advance=advance)), evaluation.scores)
    except Stopped:
        raise
    except _Elsewhere:
        return _first(dist.gather_objects(None))
    except (Exception, SystemExit) as error:  # a library that exits ends its evaluation, not the run
        failure = Failure(type(error).__name__, str(error), "".join(traceback.format_exception(error)))
    if dist.any_of(failure is not None):
        return _first(dist.gather_objects(failure))
    assert report is not None
    return report


def _first(failures: list[Failure | None]) -> Failure:
    return next(failure for failure in failures if failure is not None)


def _plain(report: Any, promised: frozenset[str] | None) -> Report:
    """`report` with Python's own numbers; refuses what is none, what cannot be written as JSON, and one
    without a score of `promised`, its class's `scores`: a table would wait for it for ever."""
    if not isinstance(report, Report):
        raise UserError(f"its run() returned {type(report).__name__}, not vocl.interface.Report")
    if not isinstance(report.protocol, str):
        raise UserError(f"its protocol is {type(report.protocol).__name__}, not a name")
    metrics = {name: _number(name, value) for name, value in report.metrics.items()}
    if lacking := sorted((promised or frozenset()) - metrics.keys()):
        raise UserError(f"its class names the scores {', '.join(lacking)}, which its report lacks")
    for name, measure in report.measures.items():
        if name not in metrics:
            raise UserError(f"its measures name {name!r}, which is none of its scores {', '.join(metrics)}")
        if not isinstance(measure, Measure):
            raise UserError(
                f"its measure of {name!r} is {type(measure).__name__}, not vocl.interface.Measure"
            )
    if not isinstance(report.rows, list) or not all(isinstance(row, dict) for row in report.rows):
        raise UserError("its rows are not a list with a dict for each video")
    try:
        json.dumps(finite(report.rows))
    except (TypeError, ValueError) as error:
        raise UserError(f"its rows cannot be written as JSON: {error}") from None
    return replace(report, metrics=metrics)


def _number(name: Any, value: Any) -> int | float:
    """The score `name` as Python's own number; nan, undefined, where no record may hold it: a probe that
    diverged must not make the result of its run unreadable."""
    try:
        number = value.item() if hasattr(value, "item") else value
    except (RuntimeError, ValueError):  # of several elements
        number = None
    if not isinstance(name, str) or isinstance(number, bool) or not isinstance(number, int | float):
        raise UserError(f"its score {name!r} is {type(value).__name__}, not a number")
    return number if is_number(number) else math.nan


@contextmanager
def frozen(model: VideoModel) -> Iterator[None]:
    """Within the block nothing trains the model; the mode of each of its parts is as before afterwards."""
    was_training, modes = model.training, [(part, part.training) for part in model.modules()]
    trained = [p for p in model.parameters() if p.requires_grad]
    model.eval()
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        model.train(was_training)
        for part, mode in modes:  # a part may have another than the whole
            part.training = mode
        for parameter in trained:
            parameter.requires_grad_(True)


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Within the block torch's global generators start from `seed`; they go on as before afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
