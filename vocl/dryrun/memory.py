"""What a step of a run's training would have to hold on its GPU."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import torch

from vocl import assemble
from vocl.config.run_config import RunConfig
from vocl.dryrun.clips import empty_clip
from vocl.dryrun.fakes import fake_tensors
from vocl.dryrun.host_reads import AnsweredReads
from vocl.dryrun.peak import PeakMemory
from vocl.nn.execution import room
from vocl.rundir.of_config import run_dir_of
from vocl.stop import StopFlag
from vocl.trainer import Trainer

HOST = torch.device("cpu")  # of the fake tensors: gradients of those of a GPU ask for its driver


@dataclass(frozen=True)
class StageMemory:
    """A stage of the training: `clips` of `frames` on one GPU, and the most bytes at a time."""

    stage: str
    clips: int
    frames: int
    weights: int  # of the model and of the losses
    peak: int


def of_training(config: RunConfig, gpu_bytes: int | None, processes: int) -> list[StageMemory]:
    """The memory that a step of each stage takes on each of `processes` GPUs that have `gpu_bytes`; None:
    as much as is wanted.

    A true step with fake tensors: forward, losses, backward, clipping, update. Attention counts as
    fused, as it is on a GPU. What CUDA takes for itself is not seen.
    """
    if not config.loss or not config.train.steps:
        return []
    if config.train.precision == "fp16":  # which a CPU does not compute; bf16 takes as much
        config = replace(config, train=replace(config.train, precision="bf16"))
    config = replace(config, runtime=replace(config.runtime, compile=None))  # nothing to compile for
    model = assemble.make_model(config, pretrained=False).to("meta")
    with faked(gpu_bytes) as memory:
        trainer = assemble.make_trainer(config, model, None, HOST, StopFlag(), run_dir_of(config), mute=True)
        stages = range(len(trainer.curriculum.stages))
        return [_of_stage(config, trainer, index, memory, processes) for index in stages]


@contextmanager
def faked(gpu_bytes: int | None) -> Iterator[PeakMemory]:
    """Within it tensors are fake, and what they would take of a GPU of `gpu_bytes` is counted."""
    with ExitStack() as stack:
        stack.enter_context(room.as_gpu(gpu_bytes if gpu_bytes is not None else 2**60))
        stack.enter_context(fake_tensors())
        memory = stack.enter_context(PeakMemory())
        stack.enter_context(AnsweredReads())
        yield memory


def _of_stage(
    config: RunConfig, trainer: Trainer, index: int, memory: PeakMemory, processes: int
) -> StageMemory:
    curriculum = trainer.curriculum
    step = curriculum.starts[index]
    if curriculum.index(step + 1) == index:
        step += 1  # what happens on entering the stage may ask for what was seen before
    clips, frames = trainer.clips_of(step)
    clips = math.ceil(clips / processes)
    weights = sum(p.nbytes for p in [*trainer.model.parameters(), *trainer.objective.parameters()])
    # the next batch comes while this one is worked on
    clip, ahead = (empty_clip(config, trainer.model, clips, frames) for _ in range(2))
    for _ in range(2):  # the optimizer's moments come with the first step
        memory.peak = memory.now
        trainer.step(step, clip)
        trainer.torch_optimizer.zero_grad(set_to_none=True)
    del ahead
    return StageMemory(curriculum.names[index], clips, frames, weights, memory.peak)
