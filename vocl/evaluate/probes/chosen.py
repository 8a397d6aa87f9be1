"""What a run's probes score: which evaluation, on which split, told by which of its scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vocl import assemble, dist
from vocl.config import folders
from vocl.config.folders import CONF
from vocl.config.proof.evaluations import TRUTH, declared
from vocl.config.run_config import RunConfig
from vocl.config.safe_yaml import read_yaml
from vocl.errors import UserError
from vocl.interface import Source

DEV = "dev"


@dataclass(frozen=True)
class Chosen:
    """The evaluation `name`, whose split `of` stands for the one that it scores at the end, `instead`;
    `score`: by which it is told, None where the config leaves that open."""

    name: str
    score: str | None
    of: str
    instead: str


def choose(config: RunConfig) -> Chosen:
    """What the probes of `config`, which has an evaluation, score; the same on every rank.

    The evaluation is the one that runtime.probe_metric names, else the first that gives the score. The split
    is "dev" where the evaluation's dataset has one of its own, else the one that it scores at the end.
    """
    asked = config.runtime.probe_metric
    name, slash, score = asked.rpartition("/") if asked else ("", "", None)
    if not slash:
        name = _first_with(config, score)
    instead = assemble.make_evaluation(config, name).split
    split = DEV if _has_dev(config, name, instead) else instead
    return dist.gather_objects(Chosen(name, score, split, instead))[0]


def headline(metrics: Mapping[str, Any]) -> str:
    """The score by which others call a result: the first of conf/metric_names.yaml, else the first one."""
    known = read_yaml(CONF / "metric_names.yaml")
    return next((name for name in known if name in metrics), next(iter(metrics)))


def _first_with(config: RunConfig, score: str | None) -> str:
    """The first evaluation that gives `score`, as far as its class says what it gives; None: the first."""
    if score is None:
        return next(iter(config.eval))
    allowed = folders.packages(config.project)
    given = {name: declared(own.part, allowed, "scores", None) for name, own in config.eval.items()}
    sure = [name for name, scores in given.items() if scores is not None and score in scores]
    return next(iter([*sure, *(name for name, scores in given.items() if scores is None), *given]))


def _has_dev(config: RunConfig, name: str, scored: str) -> bool:
    """Whether there are dev videos, others than of the split `scored` (a dataset of chosen videos has these
    in each split), with a truth where the evaluation needs that."""
    try:
        source = assemble.make_source(config, DEV, name)
        names = _few_names(config, source)
        if names == _few_names(config, assemble.make_source(config, scored, name)):
            return False
        if TRUTH not in assemble.make_evaluation(config, name).needs:
            return bool(names)
        return any(source.truth(each) is not None for each in names)
    except (UserError, OSError):
        return False


def _few_names(config: RunConfig, source: Source) -> list[str]:
    return [source[i].name for i in range(min(len(source), config.runtime.probe_videos))]
