"""From a checked config to the objects of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from vocl.config import folders, schema
from vocl.config.build import build
from vocl.config.check import weights_source
from vocl.config.proof import inputs
from vocl.config.proof.evaluations import TRUTH
from vocl.config.run_config import RunConfig, values
from vocl.config.sections import Dataset, Runtime
from vocl.curriculum import Curriculum
from vocl.data.features.cache import FeatureCache
from vocl.data.features.encoder import Encoder
from vocl.data.truth import refuse_without_object
from vocl.errors import UserError
from vocl.files import user_path
from vocl.interface import Backbone, Evaluation, Source, VideoModel
from vocl.objective import Objective, Term
from vocl.optim import Optimizer
from vocl.rundir.checkpoint import Checkpoints
from vocl.rundir.run_dir import RunDir
from vocl.stop import StopFlag
from vocl.tracking import mirror
from vocl.tracking.mirror import Mirror
from vocl.tracking.profile import Profiler
from vocl.tracking.track import Track
from vocl.trainer import Trainer


def _build(config: RunConfig, node: Any, kind: Any, path: str) -> Any:
    allowed = folders.packages(config.project)
    make_importable(allowed)
    return build(node, kind, path, allowed)


def make_dataset(config: RunConfig, evaluation: str | None = None) -> Dataset:
    """The dataset that an evaluation scores on, its own or the run's; None: the run's."""
    types, section = schema.section_types("Dataset"), values(config.dataset_of(evaluation))
    return Dataset(**{k: _build(config, v, types[k], f"dataset.{k}") for k, v in section.items()})


def make_source(config: RunConfig, split: str, evaluation: str | None = None) -> Source:
    """Split `split` of that dataset; raises `UserError` when it is not where it must be."""
    return make_dataset(config, evaluation).source(split, user_path(config.runtime.data_root))


def make_evaluation(config: RunConfig, name: str) -> Evaluation:
    """The evaluation `name`."""
    return _build(config, config.eval[name].part, schema.EVALUATION, f"eval.{name}")()


def make_backbone(config: RunConfig, frame_px: tuple[int, int], weights_root: Path | None) -> Backbone:
    """The backbone for frames of `frame_px`; without `weights_root` a checkpoint must fill it."""
    return _build(config, config.backbone, schema.PARTS["backbone"], "backbone")(frame_px, weights_root)


def make_model(config: RunConfig, pretrained: bool) -> VideoModel:
    """The model; with `pretrained` its backbone reads its weights, else a checkpoint must fill them."""
    height, width = config.dataset.size_px
    frame_px = (height, width)
    weights_root = user_path(config.runtime.weights_root) if pretrained else None
    backbone = make_backbone(config, frame_px, weights_root)
    for name, evaluation in config.eval.items():
        size = evaluation.dataset.size_px if evaluation.dataset else []
        if any(side % backbone.patch_px for side in size):
            raise UserError(
                f"eval.{name}.dataset.size_px={size}: not a multiple of the backbone's patch, "
                f"{backbone.patch_px}"
            )
    return _build(config, config.model, schema.PARTS["model"], "model")(backbone, frame_px)


def feature_cache(
    config: RunConfig,
    source: Source,
    split: str,
    model: VideoModel,
    device: torch.device,
    training: bool,
    evaluation: str | None = None,
) -> FeatureCache | None:
    """Kept features of the model's backbone for the videos of `source`, where runtime.feature_cache asks
    for them and they are exactly what the model would compute for `training` clips, or for whole videos at
    test (of the dataset of `evaluation`)."""
    inexact = inputs.not_cacheable(config.content, folders.packages(config.project))
    if training:
        inexact = inexact or inputs.not_exact(values(config.dataset))
    if config.runtime.feature_cache == "none" or inexact:
        return None
    precision = config.train.precision if training else "fp32"
    dataset = make_dataset(config, evaluation)
    encoder = Encoder(model.backbone, config.backbone, dataset, device, precision)
    fallback = json.dumps([config.dataset_of(evaluation).source, split], sort_keys=True)
    return FeatureCache(source, encoder, user_path(config.runtime.root), fallback)


def clip_needs(config: RunConfig, model: VideoModel, training: bool) -> frozenset[str]:
    """Names of the fields of `Clip` that are read beside those that are always filled; in an evaluation
    by the model alone, not by the losses."""
    sections = ("model", "loss") if training else ("model",)
    declared = inputs.clip_needs(config.content, folders.packages(config.project), sections)
    reads_video = model.reads_video or "video" in declared
    return frozenset(declared) - inputs.ALWAYS | ({"video"} if reads_video else set())


def make_objective(config: RunConfig) -> Objective:
    """The loss terms with their weights."""
    terms, kinds = {}, schema.section_types("TermSettings")
    for name, term in config.loss.items():
        loss = _build(config, term.part, schema.LOSS, f"loss.{name}")()
        weight = _build(config, term.weight, kinds["weight"], f"loss.{name}.weight")
        terms[name] = Term(loss, weight(config.train.steps) if callable(weight) else weight, term.level)
    return Objective(terms)


def make_curriculum(config: RunConfig) -> Curriculum:
    """The stages, laid out on train.steps."""
    curriculum = _build(config, config.curriculum, schema.PARTS["curriculum"], "curriculum")
    return curriculum(config.train.steps, config.seed)


def make_optimizer(config: RunConfig) -> Optimizer:
    """The optimizer's settings and schedule."""
    return _build(config, config.optim, schema.PARTS["optim"], "optim")(config.train.steps)


def make_trainer(
    config: RunConfig,
    model: VideoModel,
    source: Source | None,
    device: torch.device,
    stop: StopFlag,
    run_dir: RunDir,
    mute: bool,
) -> Trainer:
    """The training of `model` on `source` (None: on none); `mute`: it writes checkpoints at most."""
    shown = None if mute else run_dir
    runtime, folder = config.runtime, None if mute else run_dir.path
    return Trainer(
        seed=config.seed,
        train=config.train,
        runtime=runtime,
        dataset=make_dataset(config),
        source=source,
        model=model,
        objective=make_objective(config),
        curriculum=make_curriculum(config),
        optimizer=make_optimizer(config),
        device=device,
        checkpoints=Checkpoints(run_dir.checkpoints, _tenths(config)),
        track=_make_track(shown, config.train.steps, runtime),
        profiler=Profiler(folder, runtime.profile_from, runtime.profile_steps),
        stop=stop,
    )


def _make_track(run_dir: RunDir | None, steps: int, runtime: Runtime) -> Track:
    mirror = None
    if run_dir is not None and runtime.tracking != "none":
        mirror = Mirror(
            run_dir,
            runtime.tracking,
            runtime.wandb_project,
            runtime.wandb_entity,
            runtime.tracking_checkpoints,
        )
    return Track(run_dir, steps, runtime.progress, mirror)


def _tenths(config: RunConfig) -> frozenset[int]:
    """Steps whose checkpoints are kept for good: every tenth of the run, if asked."""
    steps, every = config.train.steps, config.runtime.checkpoint_every
    if not config.runtime.checkpoint_tenths:
        return frozenset()
    return frozenset(round(steps * i / 10 / every) * every for i in range(1, 10))


def missing_inputs(config: RunConfig, fresh: bool) -> list[str]:
    """What a run needs and does not find, or finds damaged: all complaints at once.

    Pretrained weights are needed for a `fresh` start alone: a checkpoint has them.
    """
    complaints = mirror.missing(config.runtime.tracking)
    for check in (_data_is_there, _weights_are_there, _warm_start_is_there) if fresh else (_data_is_there,):
        try:
            check(config)
        except UserError as error:
            complaints.append(str(error))
    return complaints


def _data_is_there(config: RunConfig) -> None:
    if config.loss:
        make_source(config, "train").check()
    check_evaluations(config)


def check_evaluations(config: RunConfig) -> None:
    """Look at all that the evaluations read, before a long run; raises `UserError` for what is not there,
    damaged, or without the truth that a score needs."""
    seen = set()
    for name in config.eval:
        evaluation, dataset = make_evaluation(config, name), config.dataset_of(name)
        for split in evaluation.splits:
            needs_truth = TRUTH in evaluation.needs and split == evaluation.splits[0]
            where = f"dataset {dataset.name}", f"split {split!r}"
            source = make_source(config, split, name)
            if (key := (json.dumps(values(dataset)), split, needs_truth)) not in seen:
                seen.add(key)
                source.check()
                if needs_truth:
                    place = "dataset" if config.eval[name].dataset is None else f"eval.{name}.dataset"
                    refuse_without_object(source, *where, place)
            if split == evaluation.splits[0]:
                evaluation.check(source, f"eval.{name}: {where[0]}, {where[1]}")


def count_held_out(config: RunConfig) -> int | None:
    """The number of videos that the evaluations score; None where their datasets cannot be asked now."""
    numbers: dict[str, int] = {}
    try:
        for name in config.eval:
            split = make_evaluation(config, name).splits[0]
            place = json.dumps([values(config.dataset_of(name)), split])
            numbers[place] = numbers[place] if place in numbers else len(make_source(config, split, name))
    except (UserError, OSError):
        return None
    return sum(numbers.values())


def _weights_are_there(config: RunConfig) -> None:
    source = weights_source(config)
    if source is not None:
        from vocl.nn.backbones.pretrained import locate_weights

        locate_weights(config.backbone["name"], user_path(config.runtime.weights_root), *source)


def _warm_start_is_there(config: RunConfig) -> None:
    if config.warm_start is not None:
        from vocl.rundir.results_root import ResultsRoot

        ResultsRoot.of(config.runtime.root).find_trusted(config.warm_start.run)


def make_importable(allowed: dict[str, Path]) -> None:
    """Let Python find the packages of a project folder."""
    import sys

    for path in allowed.values():
        if str(path.parent) not in sys.path:
            sys.path.append(str(path.parent))
