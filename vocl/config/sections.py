"""The sections of a config that are plain values; their numbers stand in `conf/`. Imports no torch.

`vocl.config.run_config` is the whole config; what a class here takes is read from its source text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from annotated_types import Ge, Gt, Le

    from vocl.config.build import Part
    from vocl.data.augment import Augmentation
    from vocl.data.sampling import Sampling
    from vocl.interface import Schedule, Source

Node = dict[str, Any]  # a part as a config says it: its `_target_` and its settings


@dataclass(frozen=True, kw_only=True)
class Train:
    """The optimisation: `batch` is global (clips per step over all processes)."""

    steps: Annotated[int, Ge(0)]  # 0: the model as it begins, as a control
    batch: Annotated[int, Ge(1)]
    precision: Literal["fp32", "tf32", "bf16", "fp16", "fp8"]
    clip: Annotated[float, Gt(0)] | None  # global L2 norm of the gradients


@dataclass(frozen=True, kw_only=True)
class DatasetValues:
    """A source of videos, and how clips are cut and shaped for training; its parts said or built."""

    name: str
    source: dict[str, Any] | Part[Source]
    size_px: list[int]  # height, width of the model's input
    fit: Literal["stretch", "crop"]  # crop: short side to size_px, then a square window
    normalise: Literal["imagenet", "half", "kinetics"]
    clip_frames: Annotated[int, Ge(1)]
    clip_starts: Literal["aligned", "any"]  # aligned: multiples of clip_frames, as the releases do
    flip: Annotated[float, Ge(0), Le(1)]  # probability of a horizontal flip, one draw per clip
    reverse: Annotated[float, Ge(0), Le(1)]  # probability of playing a clip backwards
    # which frames make a clip; null: consecutive ones, at clip_starts
    sampling: dict[str, Any] | Part[Sampling] | None
    augment: Sequence[dict[str, Any] | Part[Augmentation]]  # further augmentations: `vocl.data.augment`
    first_batches: Annotated[int, Ge(1)] | None  # of training, again and again; null: batch after batch
    views: Annotated[int, Ge(0)]  # further views of the same frames, under photometric draws of their own


@dataclass(frozen=True, kw_only=True)
class DatasetSection(DatasetValues):
    """A dataset as a config says it."""

    source: Node
    sampling: Node | None
    augment: list[Node]


@dataclass(frozen=True, kw_only=True)
class Dataset(DatasetValues):
    """A dataset whose parts are built."""

    source: Part[Source]
    sampling: Part[Sampling] | None
    augment: list[Part[Augmentation]]


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """Where and how a run executes; not part of its identity."""

    root: str
    data_root: str
    weights_root: str
    device: Literal["auto", "cpu", "cuda"]
    threads: Annotated[int, Ge(1)] | None  # CPU threads of a process; null: PyTorch's choice
    # processes that prepare batches; null: on a GPU as many as there are cores for, else none
    workers: Annotated[int, Ge(0)] | None
    # whether a step's numbers are read during the next one, and it is clipped on the device, which then
    # never waits; null: on a GPU. fp16 reads them at once
    late_checks: bool | None
    # mode of torch.compile for regions of a step, `vocl.nn.execution.compiled`; null: as they are written
    compile: Literal["default", "reduce-overhead", "max-autotune"] | None
    # Features of a frozen backbone, computed once for all runs: "auto" where that is exact, "always"
    # refuses a run for which it is not.
    feature_cache: Literal["none", "auto", "always"]
    log_every: Annotated[int, Ge(1)]  # steps
    checkpoint_every: Annotated[int, Ge(1)]  # steps
    # steps after which a run is scored and left, to go on under a later one; null: it trains to its end
    stop_at: Annotated[int, Ge(1)] | None
    checkpoint_tenths: bool  # also keep one checkpoint of every tenth of the run
    probe_every: Annotated[int, Ge(0)]  # steps between probes, `vocl.evaluate.probes`; 0: none
    probe_videos: Annotated[int, Ge(1)]  # that a probe scores
    # SCORE or EVALUATION/SCORE: by which a probe is told in a word; null: the best known of the first one
    probe_metric: str | None
    probe_best: bool  # keep the checkpoint of the best probe beside the last ones
    profile_from: Annotated[int, Ge(1)]  # steps of an attempt before its profile: `vocl.tracking.profile`
    profile_steps: Annotated[int, Ge(0)]  # steps that are profiled; 0: none
    keep_masks: bool  # keep soft masks of an evaluation, uint8 at patch resolution
    tracking: Literal["none", "offline", "online", "trackio"]  # offline, online: W&B; `vocl.tracking`
    tracking_media: Annotated[int, Ge(0)]  # held-out videos whose pictures a tracker is shown
    tracking_checkpoints: bool  # whether a tracker is given the last checkpoint
    wandb_project: str  # of W&B and of trackio
    wandb_entity: str | None  # null: the account's own
    progress: bool  # show a progress bar on a terminal


@dataclass(frozen=True, kw_only=True)
class TermSettings:
    """What every loss term has beside its own parameters."""

    weight: float | Part[Schedule]  # or a schedule of the run's step: `vocl.schedule.Ramp`
    level: (
        Literal["children", "teacher"] | None
    )  # of the Output it reads; null: the top (`on` is true in YAML)


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """What every evaluation has beside its own parameters."""

    dataset: dict[str, Any] | None  # a section like `dataset`, whose videos it scores; null: the run's


@dataclass(frozen=True, kw_only=True)
class WarmStart:
    """Start from another run's weights: `run` is an id or a folder, `take` globs of parameter names."""

    run: str
    take: list[str]
