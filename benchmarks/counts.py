"""What a training step costs by count, no benchmark: operations, bytes, kernels, found with fake tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from vocl import assemble
from vocl.config.compose import composed
from vocl.dryrun.clips import empty_clip
from vocl.dryrun.memory import HOST, faked
from vocl.rundir.of_config import run_dir_of
from vocl.stop import StopFlag

GPUS = {"A100": (312e12, 250e9), "H200": (990e12, 450e9)}  # dense bf16 FLOP/s, NVLink bytes/s each way
REACHED = 0.4  # of the peak that a step is taken to reach

# Operations of aten that are no kernel, beside views: memory, and numbers of the host.
FREE = (
    "empty",
    "new_empty",
    "detach",
    "alias",
    "lift",
    "_unsafe_view",
    "_local_scalar",
    "scalar_tensor",
    "promote",
)


class Launches(TorchDispatchMode):
    """Counts the operations that are kernels on a GPU, each once: `number`."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        is_kernel = func.namespace == "aten" and not func.is_view
        self.number += is_kernel and not func.overloadpacket.__name__.startswith(FREE)
        return func(*args, **(kwargs or {}))


@dataclass(frozen=True)
class Counted:
    """A step of an experiment's last stage: operations over all `clips`, floats all-reduced, kernels."""

    clips: int
    frames: int
    size_px: tuple[int, int]
    flops: int
    reduced: int
    launches: int


def count(experiment: str, processes: int = 1, kept: bool = False) -> Counted:
    """The step of `experiment`: forward, losses, backward and update, matrix products alone; `kept`: the
    features of its frozen backbone come from the cache."""
    config = composed([f"experiment={experiment}", "runtime.late_checks=true"])  # as on a GPU
    config = replace(config, train=replace(config.train, precision="bf16"))
    model = assemble.make_model(config, pretrained=False).to("meta")
    with faked(2**37):
        trainer = assemble.make_trainer(config, model, None, HOST, StopFlag(), run_dir_of(config), mute=True)
        step = max(trainer.train.steps - 1, trainer.curriculum.starts[-1])
        clips, frames = trainer.clips_of(step)
        clip = empty_clip(config, trainer.model, math.ceil(clips / processes), frames)
        if kept:
            clip = replace(clip, features=trainer.model.encode(clip))
        with FlopCounterMode(display=False) as counter, Launches() as launches:
            trainer.step(step, clip)
    reduced = sum(p.numel() for p in trainer.trainable.values() if p.grad is not None)
    height, width = config.dataset.size_px
    flops = counter.get_total_flops()
    return Counted(clips, frames, (height, width), flops, reduced, launches.number)
