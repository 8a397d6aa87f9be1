"""From a checked config to the objects of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vocl import config as configs
from vocl.build import build
from vocl.config import Config
from vocl.curriculum import Curriculum
from vocl.errors import UserError
from vocl.files import user_path
from vocl.interface import Source, VideoModel
from vocl.objective import Objective
from vocl.optim import Optimizer
from vocl.settings import Dataset


def parts(config: Config, name: str) -> Any:
    """Section `name` of a checked config as a `Part`; of `eval`, a mapping of them by name."""
    if name == "eval":
        nodes = config["eval"].items()
        return {key: _build(config, node, configs.EVALUATION, f"eval.{key}") for key, node in nodes}
    return _build(config, config[name], configs.PARTS[name], name)


def _build(config: Config, node: Any, kind: Any, path: str) -> Any:
    allowed = configs.packages(config["project"])
    _importable(allowed)
    return build(node, kind, path, allowed)


def make_dataset(config: Config) -> Dataset:
    """The dataset section."""
    types = configs.section_types("Dataset")
    values = {
        key: _build(config, value, types[key], f"dataset.{key}") for key, value in config["dataset"].items()
    }
    return Dataset(**values)


def make_source(config: Config, split: str) -> Source:
    """Split `split` of the run's dataset; raises `UserError` when it is not where it must be."""
    return make_dataset(config).source(split, user_path(config["runtime"]["data_root"]))


def make_model(config: Config, pretrained: bool) -> VideoModel:
    """The model; with `pretrained` its backbone reads its weights, else a checkpoint must fill them."""
    frame_px = tuple(config["dataset"]["size_px"])
    weights_root = user_path(config["runtime"]["weights_root"]) if pretrained else None
    backbone = parts(config, "backbone")(frame_px, weights_root)
    return parts(config, "model")(backbone, frame_px)


def make_objective(config: Config) -> Objective:
    """The loss terms with their weights."""
    terms = {}
    for name, node in config["loss"].items():
        own = {key: value for key, value in node.items() if key not in configs.TERM}
        loss = _build(config, own, configs.LOSS, f"loss.{name}")
        terms[name] = {"loss": loss, "weight": node["weight"], "level": node["level"]}
    return Objective(terms)


def make_curriculum(config: Config) -> Curriculum:
    """The stages, laid out on train.steps."""
    return parts(config, "curriculum")(config["train"]["steps"], config["seed"])


def make_optimizer(config: Config) -> Optimizer:
    """The optimizer's settings and schedule."""
    return parts(config, "optim")(config["train"]["steps"])


def missing_inputs(config: Config, fresh: bool) -> list[str]:
    """What a run needs and does not find, or finds damaged: all complaints at once.

    Pretrained weights are needed for a `fresh` start alone: a checkpoint has them.
    """
    complaints = []
    for check in (_data_is_there, _weights_are_there, _warm_start_is_there) if fresh else (_data_is_there,):
        try:
            check(config)
        except UserError as error:
            complaints.append(str(error))
    return complaints


def _data_is_there(config: Config) -> None:
    scored = {evaluation["split"] for evaluation in config["eval"].values()}
    for split in sorted({"train", *scored}):
        source = make_source(config, split)
        source.check()
        names = (source[i].name for i in range(len(source)))
        if split in scored and not any(source.truth(name) for name in names):
            raise UserError(
                f"dataset {config['dataset']['name']}: no video of split {split!r} has a truth to score"
            )


def _weights_are_there(config: Config) -> None:
    if configs.needs_weights(config):
        from vocl.nn.backbone import locate_weights

        locate_weights(config["backbone"]["name"], user_path(config["runtime"]["weights_root"]))


def _warm_start_is_there(config: Config) -> None:
    if config["warm_start"] is not None:
        from vocl.load import trusted_run

        trusted_run(config["warm_start"]["run"], config["runtime"]["root"])


def _importable(allowed: dict[str, Path]) -> None:
    """Let Python find the packages of a project folder."""
    import sys

    for path in allowed.values():
        if str(path.parent) not in sys.path:
            sys.path.append(str(path.parent))
