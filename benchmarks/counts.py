"""What a training step costs by count, no benchmark: operations and bytes, found with fake tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from torch.utils.flop_counter import FlopCounterMode

from vocl import assemble
from vocl.config.compose import composed
from vocl.dryrun.clips import empty_clip
from vocl.dryrun.memory import HOST, faked
from vocl.rundir.of_config import run_dir_of
from vocl.stop import StopFlag

GPUS = {"A100": (312e12, 250e9), "H200": (990e12, 450e9)}  # dense bf16 FLOP/s, NVLink bytes/s each way
REACHED = 0.4  # of the peak that a step is taken to reach


@dataclass(frozen=True)
class Counted:
    """A step of an experiment's last stage: operations over all `clips`, floats that are all-reduced."""

    clips: int
    frames: int
    size_px: tuple[int, int]
    flops: int
    reduced: int


def count(experiment: str, processes: int = 1) -> Counted:
    """The step of `experiment`: forward, losses, backward and update, matrix products alone."""
    config = composed([f"experiment={experiment}"])
    config = replace(config, train=replace(config.train, precision="bf16"))
    model = assemble.make_model(config, pretrained=False).to("meta")
    with faked(2**37):
        trainer = assemble.make_trainer(config, model, None, HOST, StopFlag(), run_dir_of(config), mute=True)
        step = max(trainer.train.steps - 1, trainer.curriculum.starts[-1])
        clips, frames = trainer.clips_of(step)
        clip = empty_clip(config, trainer.model, math.ceil(clips / processes), frames)
        with FlopCounterMode(display=False) as counter:
            trainer.step(step, clip)
    reduced = sum(p.numel() for p in trainer.trainable.values() if p.grad is not None)
    height, width = config.dataset.size_px
    return Counted(clips, frames, (height, width), counter.get_total_flops(), reduced)
