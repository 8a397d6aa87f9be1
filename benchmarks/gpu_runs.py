"""The parts of `make gpu` that train: resume, ranks, and how long steps wait for their clips (gpu.py)."""

from __future__ import annotations

import multiprocessing
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import stall as stalls
import torch
from gpu_parts import Rows
from step import MODEL
from torch import Tensor

from vocl import assemble, run
from vocl.config.compose import composed
from vocl.config.run_config import RunConfig
from vocl.data.served import Served
from vocl.interface import Source
from vocl.rundir.checkpoint import Checkpoints
from vocl.rundir.of_config import run_dir_of
from vocl.stop import EXIT_STOPPED, StopFlag
from vocl.trainer import Trainer

SMALL = [
    "experiment=slotcontrast/synthetic",
    *("train.steps=6", "runtime.checkpoint_every=3", "runtime.progress=false", "runtime.workers=0"),
    "eval.discovery.max_videos=4",
    # whose steps are as large as gradients are: Adam makes much of what is nearly zero
    *("optim=sgd", "optim/schedule=constant", "optim.schedule.warmup_steps=0", "optim.lr=0.05"),
]
WARM, STEPS = 5, 30  # of a stall


def trainer_of(config: RunConfig, device: torch.device, source: Source | None = None) -> Trainer:
    """The training of `config` with random weights, the same on every device."""
    torch.manual_seed(0)
    model = assemble.make_model(config, pretrained=False)
    if source is not None:
        source = Served(source, assemble.clip_needs(config, model, training=True))
    return assemble.make_trainer(config, model, source, device, StopFlag(), run_dir_of(config), mute=True)


def resume(device: torch.device) -> Rows:
    """Whether a run that stops and goes on ends with the weights of one that does not."""
    with tempfile.TemporaryDirectory() as folder:
        whole, stopped = (small(Path(folder, name), device) for name in ("whole", "stopped"))
        codes = [train(whole)]
        for until in (["runtime.stop_at=3"], []):
            codes.append(train([*stopped, *until]))
        assert codes == [0, EXIT_STOPPED, 0], codes
        yield apart(whole, stopped)


def ranks(device: torch.device) -> Rows:
    """Whether two ranks end with the weights of one process: by NCCL on two GPUs, else by gloo."""
    count = torch.cuda.device_count() if device.type == "cuda" else 0
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        one, two = (small(Path(folder, name), device) for name in ("one", "two"))
        assert train(one) == 0
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        with multiprocessing.get_context("spawn").Pool(2) as pool:  # a fork cannot use a GPU in use
            done = pool.starmap(as_rank, [(rank, port, two, count > 1) for rank in range(2)], chunksize=1)
        assert done == [0, 0], done
        yield {"gpus": min(2, count), "by": "nccl" if count > 1 else "gloo", **apart(one, two)}


def as_rank(rank: int, port: int, overrides: list[str], own_gpu: bool) -> int:
    """Run as rank `rank` of two."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"LOCAL_RANK": str(rank if own_gpu else 0)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if not own_gpu:
        torch.distributed.init_process_group("gloo")
    return train(overrides)


def train(overrides: list[str]) -> int:
    """Run to the end, without its scores on the screen; the exit code."""
    with redirect_stdout(StringIO()):
        return run.run(composed(overrides))


def small(root: Path, device: torch.device) -> list[str]:
    """The overrides of a run of a few steps."""
    return [*SMALL, f"runtime.root={root}", f"runtime.device={device.type}"]


def apart(one: list[str], other: list[str]) -> dict[str, Any]:
    """How far the last weights of two runs are apart."""
    first, second = (weights(composed(overrides)) for overrides in (one, other))
    gaps = [float((second[name] - weight).abs().max()) for name, weight in first.items()]
    return {"weights": len(gaps), "largest_gap": max(gaps), "equal_to_the_bit": max(gaps) == 0}


def weights(config: RunConfig) -> dict[str, Tensor]:
    """Of the last checkpoint."""
    found = Checkpoints(run_dir_of(config).checkpoints).newest()
    assert found is not None
    model: dict[str, Tensor] = found[1]["model"]
    return model


def stall(device: torch.device) -> Rows:
    """The share of MOVi-C's steps in bf16 in which they wait for clips, which no memory keeps."""
    stalls.feeds.CACHE_BYTES = 0
    batch = [] if device.type == "cuda" else ["train.batch=2"]
    config = composed([*MODEL, "train.precision=bf16", *batch])
    with tempfile.TemporaryDirectory() as folder:
        source = stalls.CASES["movi_c"].feed(Path(folder), "movi_c").source
        trainer = trainer_of(config, device, source)
        waited, began, steps = 0.0, 0.0, WARM + (STEPS if device.type == "cuda" else 1)
        for step, (asked, clip) in enumerate(timed(trainer.batches(range(steps)))):
            if step == WARM:
                waited, began = 0.0, time.perf_counter() - asked
            waited += asked
            trainer.step(step, clip)
        seconds = time.perf_counter() - began
    yield {"steps": steps - WARM, "seconds": seconds / (steps - WARM), "stall": waited / seconds}


def timed(batches: Iterator[tuple[int, Any]]) -> Iterator[tuple[float, Any]]:
    """Clips, and for how long each was waited for."""
    while True:
        asked = time.perf_counter()
        try:
            _, clip = next(batches)
        except StopIteration:
            return
        yield time.perf_counter() - asked, clip
