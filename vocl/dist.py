"""Several processes as one: the few collective operations vocl needs. All are no-ops for one process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

_PRETENDED: list[tuple[int, int]] = []


def start(device: torch.device) -> None:
    """Join the process group that the launcher's environment (RANK, WORLD_SIZE, ...) describes."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        on_gpu = device.type == "cuda"
        if on_gpu:
            torch.cuda.set_device(device)
        # Scores are summed on the host, so gloo stays for what is not on a GPU.
        dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo")


def stop() -> None:
    """Leave the process group."""
    if dist.is_initialized():
        dist.destroy_process_group()


def is_first() -> bool:
    """Whether this process is the first of its group, also before it has joined."""
    return int(os.environ.get("RANK", "0")) == 0


def world() -> int:
    """Number of processes."""
    if _PRETENDED:
        return _PRETENDED[-1][0]
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Index of this process."""
    if _PRETENDED:
        return _PRETENDED[-1][1]
    return dist.get_rank() if dist.is_initialized() else 0


def barrier() -> None:
    """Wait for all processes."""
    if world() > 1:
        dist.barrier()


def all_sum(tensor: Tensor) -> Tensor:
    """Sum of `tensor` over processes, in place."""
    if world() > 1:
        dist.all_reduce(tensor)
    return tensor


def any_of(flag: bool) -> bool:
    """Whether `flag` holds in any process, the same answer in all."""
    return flag if world() == 1 else bool(all_sum(torch.tensor(int(flag))) > 0)


def gather_objects(item: Any) -> list[Any]:
    """`item` of every process, in rank order, on every process."""
    if world() == 1:
        return [item]
    items: list[Any] = [None] * world()
    dist.all_gather_object(items, item)
    return items


class _GatherClips(torch.autograd.Function):
    """All-gather along the first axis; the gradient of a row is the sum over ranks."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        parts = [torch.empty_like(tensor) for _ in range(world())]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = all_sum(gradient.contiguous())
        local = len(gradient) // world()
        return gradient[rank() * local : (rank() + 1) * local]


def gather_clips(tensor: Tensor) -> Tensor:
    """Rows of the global batch (b of every rank, in rank order), differentiable."""
    return tensor if world() == 1 else _GatherClips.apply(tensor)


@contextmanager
def pretend(size: int, index: int) -> Iterator[None]:
    """Answer `world` and `rank` as given: for loader processes, which are outside the group."""
    _PRETENDED.append((size, index))
    try:
        yield
    finally:
        _PRETENDED.pop()
