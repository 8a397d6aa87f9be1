"""A checked config, typed: what Python reads has attributes, parts stay as the config says them.

Imports no torch. `RunConfig.of` makes it of the content that `vocl.config.check.check` has proved, and
`content` gives that back as it was; to change a config is `dataclasses.replace`.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Literal

from vocl.config import identity
from vocl.config.cluster import CLUSTERS, Cluster
from vocl.config.schema import EVALUATION_SETTINGS, TERM, Config
from vocl.config.sections import DatasetSection, Node, Runtime, Train, WarmStart


@dataclass(frozen=True, kw_only=True)
class TermSection:
    """A loss term: `part` is the loss, whose value counts `weight` times."""

    weight: float | Node
    level: Literal["children", "teacher"] | None
    part: Node

    @classmethod
    def of(cls, content: Config) -> TermSection:
        """The term that `content` says."""
        own = {key: value for key, value in content.items() if key not in TERM}
        return cls(**{key: content[key] for key in TERM}, part=own)

    @property
    def content(self) -> Config:
        """What the config says."""
        return {key: getattr(self, key) for key in TERM} | self.part


@dataclass(frozen=True, kw_only=True)
class EvaluationSection:
    """An evaluation: `part` scores on `dataset`; None: on the run's."""

    dataset: DatasetSection | None
    part: Node

    @classmethod
    def of(cls, content: Config) -> EvaluationSection:
        """The evaluation that `content` says."""
        dataset = content["dataset"]
        own = {key: value for key, value in content.items() if key not in EVALUATION_SETTINGS}
        return cls(dataset=None if dataset is None else DatasetSection(**dataset), part=own)

    @property
    def content(self) -> Config:
        """What the config says."""
        return {"dataset": None if self.dataset is None else values(self.dataset)} | self.part


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """All that a run is made of, in the order in which it is saved."""

    seed: int
    train: Train
    model: Node
    backbone: Node
    loss: dict[str, TermSection]
    curriculum: Node
    dataset: DatasetSection
    optim: Node
    warm_start: WarmStart | None
    project: str | None
    eval: dict[str, EvaluationSection]
    runtime: Runtime
    cluster: Cluster

    @classmethod
    def of(cls, content: Config) -> RunConfig:
        """The config of a checked `content`."""
        warm = content["warm_start"]
        typed: dict[str, Any] = {
            "train": Train(**content["train"]),
            "loss": {name: TermSection.of(node) for name, node in content["loss"].items()},
            "dataset": DatasetSection(**content["dataset"]),
            "warm_start": None if warm is None else WarmStart(**warm),
            "eval": {name: EvaluationSection.of(node) for name, node in content["eval"].items()},
            "runtime": Runtime(**content["runtime"]),
            "cluster": cluster_of(content["cluster"]),
        }
        return cls(**(content | typed))

    @property
    def content(self) -> Config:
        """The config as plain data, to be saved, hashed and changed; what is nested in parts is shared."""
        return {
            "seed": self.seed,
            "train": values(self.train),
            "model": self.model,
            "backbone": self.backbone,
            "loss": {name: term.content for name, term in self.loss.items()},
            "curriculum": self.curriculum,
            "dataset": values(self.dataset),
            "optim": self.optim,
            "warm_start": None if self.warm_start is None else values(self.warm_start),
            "project": self.project,
            "eval": {name: evaluation.content for name, evaluation in self.eval.items()},
            "runtime": values(self.runtime),
            "cluster": values(self.cluster),
        }

    @functools.cached_property
    def run_id(self) -> str:
        """The name of the run: see `vocl.config.identity.run_id`."""
        return identity.run_id(self.content)

    def cell_id(self, source: str | None = None) -> str:
        """The name of its cell: see `vocl.config.identity.cell_id`."""
        return identity.cell_id(self.content, source)

    def dataset_of(self, evaluation: str | None = None) -> DatasetSection:
        """The dataset that an evaluation scores on, its own or the run's; None: the run's."""
        own = self.eval[evaluation].dataset if evaluation is not None else None
        return self.dataset if own is None else own


def cluster_of(content: Config) -> Cluster:
    """The section `cluster` of a checked config; its kind says of which class it is."""
    return CLUSTERS[content["kind"]](**content)


def values(section: Train | DatasetSection | Runtime | Cluster | WarmStart) -> Config:
    """A section as plain data, in the order of its class."""
    return dict(vars(section))
