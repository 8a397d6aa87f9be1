"""`vocl eval`: scores a trained run again, by evaluations it was not trained with or by its own under other
settings or on another dataset, and adds them to its result under keys of their own. It never
trains. An evaluation that the run's config has starts from the settings there, any other from
conf/eval. What is scored already is not scored twice, and said when it was by other code;
`--again` scores it again. `--untrained`: the model as the run started with it, as a control; `--best`:
as the best probe found it, where the run kept that.
"""

from __future__ import annotations

import copy
import sys
from typing import Any

import torch

from vocl import assemble
from vocl.config.check import check
from vocl.config.compose import completed, compose
from vocl.config.grammar import key_of, setting
from vocl.config.run_config import RunConfig, values
from vocl.config.schema import Config
from vocl.errors import UserError, printable
from vocl.evaluate import score_table
from vocl.evaluate.names import add_to_result
from vocl.evaluate.store import Evaluated, Reuse, evaluate
from vocl.interface import VideoModel
from vocl.loading import initial_model, load_run, pick_device, saved_config
from vocl.rundir.result import BEST, UNTRAINED, Which
from vocl.rundir.results_root import ResultsRoot
from vocl.rundir.run_dir import RunDir
from vocl.stop import EXIT_STOPPED, Stopped, stop_on_signal

SECTIONS = ("eval", "dataset", "runtime")
OTHER = "other_dataset"  # where the dataset to score on is composed


def run(name: str, overrides: list[str], again: bool, which: Which) -> int:
    """Evaluate the run `name` as `add` does; returns the exit code: 0, 1 an evaluation failed, 75 stopped."""
    try:
        found = add(name, overrides, again, which)
    except Stopped as stopped:
        print(f"stopped at {stopped}; the same command begins that evaluation again", file=sys.stderr)
        return EXIT_STOPPED
    return 1 if found.failed else 0


def add(run: str, overrides: list[str], again: bool = False, which: Which = "") -> Evaluated:
    """Evaluate the run `run` (an id or a folder) as `overrides` say; returns what that gave."""
    root = _root(overrides)
    place = ResultsRoot.of(root).find_trusted(run)
    saved = saved_config(place, root)
    config = requested(saved, overrides)
    plain = requested(saved, [o for o in overrides if _section(o) != "dataset"])
    _refuse_unfinished(place)
    if config.runtime.threads:
        torch.set_num_threads(config.runtime.threads)
    device = pick_device(config.runtime.device)
    assemble.check_evaluations(config)
    model, checkpoint = _model(place, config, str(device), which)
    reuse: Reuse = "nothing" if again else "stored"
    with stop_on_signal() as stop:

        def advance() -> None:
            if stop:
                raise Stopped("the evaluation")

        try:
            found = evaluate(config, model, checkpoint, place, device, advance, reuse)
            add_to_result(place, saved, plain, config, found, which)
        except OSError as error:
            raise UserError(f"{error.filename or place}: {error.strerror}") from None
    score_table.show(place)
    _tell(place, found)
    return found


def _refuse_unfinished(run: RunDir) -> None:
    imported = not list(run.events.glob("*-start.json"))
    if not imported and run.has_damaged_result():
        run.result()  # raises
    if not imported and not run.is_done():
        raise UserError(f"{run}: has not finished; train it first")


def _model(run: RunDir, config: RunConfig, device: str, which: Which) -> tuple[VideoModel, str]:
    """The model to score, and what names its weights."""
    if which == UNTRAINED:
        return initial_model(config, device), UNTRAINED
    loaded = load_run(run, config, device, best=which == BEST)
    return loaded.model, f"{BEST}-{loaded.checkpoint.digest}" if which == BEST else loaded.checkpoint.digest


def _tell(run: RunDir, found: Evaluated) -> None:
    for name in found.outdated:
        print(
            f"note: eval.{name}: these scores are by other code than today's; to score again: "
            f"vocl eval {run.id} eval=[{name}] ... --again",
            file=sys.stderr,
        )
    for name, why in found.failed.items():
        print(printable(f"failed: eval.{name}: {why}"), file=sys.stderr)


# ------------------------------------------------------------------------------------ what is asked


def requested(saved: RunConfig, overrides: list[str]) -> RunConfig:
    """The config of a run with the evaluations, their dataset and the runtime values that `overrides` ask
    for."""
    keys = [_key(override) for override in overrides]
    for override in overrides:
        if _section(override) not in SECTIONS:
            choices = ", ".join(SECTIONS)
            raise UserError(f"{override}: the run is trained already, choose from {choices}")
    others = [override for override in overrides if _section(override) == "dataset"]
    names = [f"eval=[{','.join(saved.eval)}]"] if "eval" not in keys else []
    composed = compose([*_project(saved), *names, *(o for o in overrides if o not in others)])
    config = copy.deepcopy(saved.content)
    config["eval"] = {name: config["eval"].get(name, new) for name, new in composed["eval"].items()}
    for key in keys:
        if key.partition(".")[0] != "dataset" and key not in ("eval", "runtime"):
            _put(config, key, _get(composed, key))
    if others:
        dataset = _other_dataset(saved, others)
        config["eval"] = {name: node | {"dataset": dataset} for name, node in config["eval"].items()}
    return check(config)


def _other_dataset(saved: RunConfig, overrides: list[str]) -> Config:
    """The section that dataset=NAME and dataset.<key>=value say: without NAME, the run's own with changes."""
    keys = [_key(override) for override in overrides]
    given = [o.partition("=")[2] for o in overrides]
    chosen = [value for key, value in zip(keys, given, strict=True) if key == "dataset"]
    changed = {k.removeprefix("dataset."): v for k, v in zip(keys, given, strict=True) if k != "dataset"}
    composed = compose(
        [
            *_project(saved),
            "eval=[]",
            *(f"+dataset@{OTHER}={name}" for name in chosen[-1:]),
            *(f"++{OTHER}.{key}={value}" for key, value in changed.items()),
        ]
    )
    if chosen:
        return completed(composed[OTHER])
    dataset = {"dataset": copy.deepcopy(values(saved.dataset))}
    for key in changed:
        _put(dataset, f"dataset.{key}", _get(composed[OTHER], key))
    return dataset["dataset"]


def _project(saved: RunConfig) -> list[str]:
    return [setting("project", saved.project)] if saved.project else []


def _key(override: str) -> str:
    """The dotted path in the config that an override sets: eval/protocol@eval.x.protocol=y sets
    eval.x.protocol."""
    return key_of(override).rpartition("@")[2].replace("/", ".")


def _section(override: str) -> str:
    return _key(override).partition(".")[0]


def _get(config: Any, key: str) -> Any:
    for part in key.split("."):
        if not isinstance(config, dict) or part not in config:
            raise UserError(f"{key}: no such key")
        config = config[part]
    return config


def _put(config: Any, key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for part in parents:
        if not isinstance(config.get(part), dict):
            raise UserError(f"{key}: the run's config has no {part}")
        config = config[part]
    config[last] = value


def _root(overrides: list[str]) -> str:
    """Where runs lie: runtime.root of the overrides, or of conf/."""
    return compose([o for o in overrides if _key(o) == "runtime.root"])["runtime"]["root"]
