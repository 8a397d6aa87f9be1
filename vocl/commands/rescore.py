"""`vocl rescore`: a protocol applied to masks that a run's evaluations kept, without its model."""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from vocl.commands import protocols
from vocl.commands.evaluate import requested
from vocl.commands.key_values import RESCORE, key_values
from vocl.config.check import check
from vocl.config.run_config import RunConfig
from vocl.errors import UserError, near, printable
from vocl.evaluate import score_table
from vocl.evaluate.names import add_to_result
from vocl.evaluate.store import MASKS, Evaluated
from vocl.evaluate.store import rescore as rescored
from vocl.loading import saved_config
from vocl.rundir.result import which_of
from vocl.rundir.results_root import ResultsRoot
from vocl.rundir.run_dir import RunDir
from vocl.stop import EXIT_STOPPED, Stopped, stop_on_signal

Kept = dict[str, dict[str, Any]]  # records of evaluations with masks, by the evaluations' names


def run(name: str, words: Sequence[str]) -> int:
    """Score the kept masks of the run `name` as `words` say; returns the exit code."""
    values = key_values(protocols.others(words), RESCORE)
    place = ResultsRoot.of(values["runtime.root"]).find_trusted(name)
    saved = saved_config(place, values["runtime.root"])
    if values["runtime.data_root"] is not None:
        runtime = replace(saved.runtime, data_root=values["runtime.data_root"])
        saved = replace(saved, runtime=runtime)
    protocol = protocols.chosen(words, saved.project)
    kept = _kept(place, values["eval"])
    asked = {own: _asked(saved, own, report, protocol) for own, report in kept.items()}
    if values["runtime.threads"]:
        torch.set_num_threads(int(values["runtime.threads"]))
    failed = False
    try:
        with stop_on_signal() as stop:

            def advance() -> None:
                if stop:
                    raise Stopped("the evaluation")

            for own, config in asked.items():
                found = rescored(config, own, kept[own], place, advance)
                _add(place, saved, config, own, found, kept[own])
                failed = failed or bool(found.failed)
    except Stopped as stopped:
        print(f"stopped at {stopped}; the same command begins it again", file=sys.stderr)
        return EXIT_STOPPED
    except OSError as error:
        raise UserError(f"{error.filename or place}: {error.strerror}") from None
    score_table.show(place)
    return 1 if failed else 0


def _kept(place: RunDir, wanted: str | None) -> Kept:
    """The evaluations of a finished run whose masks lie there, and that have a protocol."""
    found: Kept = {}
    for key, entry in place.result().evals.items():
        report = place.report(entry["eval_id"])
        there = report is not None and (place.evaluations / entry["eval_id"] / MASKS).is_dir()
        if report is not None and there and isinstance(report["eval"].get("protocol"), dict):
            found.setdefault(key.partition(":")[0], report)
    if not found:
        raise UserError(
            f"{place}: no evaluation with a protocol has kept masks; vocl eval {place.id} "
            "runtime.keep_masks=true scores it again and keeps them"
        )
    if wanted is not None and wanted not in found:
        raise UserError(
            f"eval={wanted}: has kept no masks, choose from {', '.join(found)}{near(wanted, found)}"
        )
    return found if wanted is None else {wanted: found[wanted]}


def _asked(saved: RunConfig, name: str, report: dict[str, Any], protocol: dict[str, Any]) -> RunConfig:
    """The config of the run with that one evaluation alone, by `protocol`."""
    clip, cut = protocol.get("clip_frames"), report["eval"]["protocol"].get("clip_frames")
    if clip != cut:
        raise UserError(
            f"protocol.clip_frames={_spelt(clip)}: the masks of eval.{name} are of a model that saw clips of "
            f"clip_frames={_spelt(cut)}; give protocol.clip_frames={_spelt(cut)}, or use vocl eval"
        )
    content = copy.deepcopy(saved.content)
    content["eval"] = {name: report["eval"] | {"protocol": protocol}}
    return check(content)


def _spelt(number: int | None) -> str:
    return "null" if number is None else str(number)


def _add(
    place: RunDir, saved: RunConfig, config: RunConfig, name: str, found: Evaluated, kept: dict[str, Any]
) -> None:
    plain = requested(saved, [f"eval=[{name}]"])
    add_to_result(place, saved, plain, config, found, which_of(kept["checkpoint"]))
    for own, why in found.failed.items():
        print(printable(f"failed: eval.{own}: {why}"), file=sys.stderr)
