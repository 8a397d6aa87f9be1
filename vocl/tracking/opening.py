"""What a run says first: what it is."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import torch
from torch import nn

from vocl import dist
from vocl.rundir.run_dir import RunDir

logger = logging.getLogger(__name__)


def say(
    run: RunDir, steps: range, device: torch.device, videos: tuple[int | None, int | None], weights: str
) -> None:
    """Log id, folder, device, steps, the numbers of videos (training, held-out) and `weights`."""
    logger.info("run %s in %s", run.id, run)
    processes = f", {dist.world()} processes" if dist.world() > 1 else ""
    training, held_out = ("unknown" if number is None else f"{number:,}" for number in videos)
    logger.info(
        "steps %d to %d on %s%s; videos: %s for training, %s held out; parameters: %s",
        *(steps.start, steps.stop, _called(device), processes, training, held_out, weights),
    )


def counted(parameters: Iterable[nn.Parameter], trained: Iterable[nn.Parameter]) -> str:
    """How many numbers are trained, and how many stay as they come."""
    count = sum(p.numel() for p in trained)
    return f"{count:,} trained, {sum(p.numel() for p in parameters) - count:,} frozen"


def _called(device: torch.device) -> str:
    name = f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""
    threads = f" (threads: {torch.get_num_threads()})" if device.type == "cpu" else ""
    return f"{device}{name}{threads}"
