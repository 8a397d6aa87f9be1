"""A declared search: a space of Hydra overrides and how it is searched, read from conf/search/NAME.yaml.

title:     what is searched
base:      {experiment: slotcontrast/synthetic}       # all trials
space:
  optim.lr: {low: 1.0e-4, high: 1.0e-2, log: true}    # whole numbers where low and high are; also step
  model.num_slots: [4, 6, 8]                          # or one of these
metric:    video_fg_ari        # of the first evaluation that has it; <evaluation>/<metric> of a named one
direction: maximize            # or minimize
split:     dev                 # what all evaluations of the trials score
seeds:     [0]                 # of each trial; its value is their mean
trials:    30
at_once:   4                   # trials that are worked on at a time
rungs:     [1000, 3000]        # steps of the full schedule at which trials are compared
reduction_factor: 3            # of so many trials at a rung one goes on
sampler:   {_target_: optuna.samplers.TPESampler}     # and its settings
sampler_seed: 0
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from launch.ablations import rows
from launch.ablations.ablation import find
from launch.ablations.overrides import Overrides, in_grammar, known_keys, mapping, read_mapping
from vocl.errors import UserError, brief
from vocl.files import NUMBER, is_a

KEYS = (
    *("title", "base", "space", "metric", "direction", "split", "seeds", "trials", "at_once", "rungs"),
    *("reduction_factor", "sampler", "sampler_seed"),
)
DIRECTIONS = ("maximize", "minimize")
SAMPLERS = "optuna.samplers."
MAY_CHANGE = ("title", "trials", "at_once")  # while a search goes on


@dataclass(frozen=True)
class Axis:
    """The values of one key: one of `choices`, in the grammar of overrides; else from `low` to `high`."""

    choices: list[str] | None = None
    low: float = 0
    high: float = 0
    log: bool = False
    step: float | None = None


@dataclass(frozen=True)
class Search:
    """One search file."""

    name: str
    path: Path
    title: str
    base: Overrides
    space: dict[str, Axis]
    metric: str
    direction: Literal["maximize", "minimize"]
    split: str
    seeds: list[int]
    trials: int
    at_once: int
    rungs: list[int]
    reduction_factor: int
    sampler: dict[str, Any]
    sampler_seed: int

    @property
    def maximizes(self) -> bool:
        """Whether more is better."""
        return self.direction == "maximize"

    @property
    def fixed(self) -> dict[str, Any]:
        """What may not change once trials are there."""
        said = asdict(self)
        return {key: said[key] for key in KEYS if key not in MAY_CHANGE}


def read(name: str, project: str | None = None) -> Search:
    """The search `name`; raises `UserError` with the file, the key and the choices."""
    if ".." in Path(name).parts or Path(name).is_absolute():
        raise UserError(f"{name}: give a name of conf/search")
    path = find("search", name, project)
    content = read_mapping(path)
    known_keys(content, KEYS, path)
    for key in KEYS:
        if key not in content:
            raise UserError(f"{path}: {key}: missing")
    space = mapping(content["space"], f"{path}: space")
    if not space:
        raise UserError(f"{path}: space: empty")
    _check(content, path)
    said = {key: content[key] for key in KEYS if key not in ("title", "base", "space", "sampler")}
    found = Search(
        name=name,
        path=path,
        title=" ".join(str(content["title"]).split()),
        base=rows.base(content["base"], f"{path}: base"),
        space={str(key): _axis(node, f"{path}: space.{key}") for key, node in space.items()},
        sampler=dict(content["sampler"]),
        **said,
    )
    for key in found.space:
        if key == "seed" or key.partition(".")[0] in ("cluster", "runtime", "eval", "project"):
            raise UserError(f"{path}: space.{key}: is not part of what a run trains on")
    return found


def _check(content: Mapping[str, Any], path: Path) -> None:
    """Refuse values of another kind; the space and the base are looked at apart."""
    rungs, seeds, sampler = content["rungs"], content["seeds"], content["sampler"]
    steps = isinstance(rungs, list) and all(is_a(step, int) and step > 0 for step in rungs)
    target = sampler.get("_target_") if isinstance(sampler, Mapping) else None
    checks = {
        "metric": is_a(content["metric"], str),
        "split": is_a(content["split"], str),
        "seeds": isinstance(seeds, list) and bool(seeds) and all(is_a(seed, int) for seed in seeds),
        "trials": is_a(content["trials"], int) and content["trials"] > 0,
        "at_once": is_a(content["at_once"], int) and content["at_once"] > 0,
        "reduction_factor": is_a(content["reduction_factor"], int) and content["reduction_factor"] > 1,
        "sampler_seed": is_a(content["sampler_seed"], int) and content["sampler_seed"] >= 0,
    }
    for key, right in checks.items():
        if not right:
            raise UserError(f"{path}: {key}={brief(content[key])}: not a valid value")
    if not steps or sorted(set(rungs)) != rungs:
        raise UserError(f"{path}: rungs={brief(rungs)}: expected rising steps, as in [1000, 3000], or []")
    if content["direction"] not in DIRECTIONS:
        raise UserError(f"{path}: direction={content['direction']}: choose from {', '.join(DIRECTIONS)}")
    if not str(target).startswith(SAMPLERS):
        raise UserError(f"{path}: sampler._target_={target}: expected a class of {SAMPLERS.rstrip('.')}")


def _axis(node: Any, where: str) -> Axis:
    if isinstance(node, list):
        if len(node) < 2:
            raise UserError(f"{where}={brief(node)}: expected two choices or more")
        return Axis(choices=[in_grammar(value) for value in node])
    if not isinstance(node, Mapping):
        raise UserError(f"{where}={brief(node)}: expected a list of choices, or low and high")
    known_keys(node, ("low", "high", "log", "step"), where)
    said: list[Any] = [node.get(key) for key in ("low", "high", "log", "step")]
    low, high, log, step = said
    if not (is_a(low, NUMBER) and is_a(high, NUMBER) and low < high):
        raise UserError(f"{where}: low={low} high={high}: expected numbers, the lower first, as in 1.0e-4")
    if log not in (None, False, True) or (log and (low <= 0 or step is not None)):
        raise UserError(f"{where}: log={log}: true asks for low above 0 and no step")
    if step is not None and not (is_a(step, NUMBER) and step > 0):
        raise UserError(f"{where}: step={step}: expected a number above 0")
    return Axis(None, low, high, bool(log), step)
