"""Two ranks against one process of the same global batch, and two runs side by side against in turn.

Run from the repository root: `python benchmarks/ranks.py`. Steps of SlotContrast on one batch of sprites, by
gloo, with a thread for each rank; the best of the rounds. `ratio`: the time of a step of two ranks over that
of one process; 0.5 is the most that a second core can give. `side_by_side`: steps per second of two seeds at
once, a thread each (`cluster.runs_per_job`), over those of one after the other with two threads.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import time
from dataclasses import replace

import torch

from vocl import assemble, dist
from vocl.config.compose import composed
from vocl.dryrun.memory import HOST
from vocl.rundir.of_config import run_dir_of
from vocl.stop import StopFlag

SETTINGS = ["experiment=slotcontrast/synthetic", "train.batch=32", "dataset.first_batches=1"]
WARM, STEPS, ROUNDS = 3, 20, 3


def seconds_per_step(rank: int, world: int, port: int, threads: int, seed: int) -> float:
    """Of a process, the first steps apart."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(threads)
    dist.start(HOST)
    config = replace(composed(SETTINGS), seed=seed)
    source, model = assemble.make_source(config, "train"), assemble.make_model(config, pretrained=True)
    trainer = assemble.make_trainer(config, model, source, HOST, StopFlag(), run_dir_of(config), mute=True)
    began = 0.0
    for step, clip in trainer.batches(range(WARM + STEPS)):
        if step == WARM:
            began = time.perf_counter()
        trainer.step(step, clip)
    taken = (time.perf_counter() - began) / STEPS
    dist.stop()
    return taken


def measured(processes: list[tuple[int, int, int]]) -> float:
    """Of the slowest of processes (rank, threads, seed) at once; several ranks are one run."""
    world = len({rank for rank, _, _ in processes})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with multiprocessing.get_context("fork").Pool(len(processes)) as pool:
        asked = [(rank, world, port, threads, seed) for rank, threads, seed in processes]
        return max(pool.starmap(seconds_per_step, asked, chunksize=1))


def main() -> None:
    kinds = {
        "one": [(0, 1, 0)],
        "ranks": [(0, 1, 0), (1, 1, 0)],
        "turn": [(0, 2, 0)],
        "beside": [(0, 1, 0), (0, 1, 1)],
    }
    best = dict.fromkeys(kinds, float("inf"))
    for _ in range(ROUNDS):
        for kind, processes in kinds.items():
            best[kind] = min(best[kind], measured(processes))
    for kind, seconds in best.items():
        print(f"{kind}_s_per_step={seconds:.3f}")
    print(f"side_by_side={2 * best['turn'] / best['beside']:.2f}")
    print(f"ratio={best['ranks'] / best['one']:.3f}")


if __name__ == "__main__":
    main()
