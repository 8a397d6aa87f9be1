from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp

from vocl.metrics.contingency import score_video
from vocl.metrics.overlap import scores

VIDEOS = 5  # an odd number: the ranks hold different shares


def tables():
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 6, (VIDEOS,), generator=generator).tolist()
    out = [torch.randint(0, 2000, (length, 5, 4), generator=generator) for length in lengths]
    out[1][:, 1:] = 0  # a video without objects
    out[2][0, 1:] = 0
    return out


def mean_of_rank(rank: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=world)
    metrics = scores(empty="one")
    for table in tables()[rank::world]:
        score_video(metrics, table)
    means = {name: float(metric.compute()) for name, metric in metrics.items()}
    torch.save(means, Path(folder, f"rank{rank}.pt"))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_give_the_mean_of_one(tmp_path):
    metrics = scores(empty="one")
    for table in tables():
        score_video(metrics, table)
    mp.spawn(mean_of_rank, args=(2, str(tmp_path)), nprocs=2)
    for rank in range(2):
        means = torch.load(tmp_path / f"rank{rank}.pt", weights_only=True)
        assert means == pytest.approx({name: float(m.compute()) for name, m in metrics.items()}, abs=1e-14)
