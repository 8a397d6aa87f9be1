"""How much memory a layer takes that could do with less: of a GPU a share, of a CPU what its cache likes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

# Values of one hidden state that are worked on at a time. One CPU thread: few enough for its cache.
# Several: more, since threads that meet often stall under any other load on the machine. A GPU:
# enough rows to fill it.
CHUNK = {"thread": 2**19, "cpu": 2**21, "gpu": 2**26}
KEPT = 1 / 4  # of a GPU's memory: what a layer may keep for its backward pass, where it can compute it again

_PRETENDED: list[int] = []


@contextmanager
def as_gpu(total_bytes: int) -> Iterator[None]:
    """Let all devices count as a GPU of so much memory: to foretell what a step will take of one."""
    _PRETENDED.append(total_bytes)
    try:
        yield
    finally:
        _PRETENDED.pop()


def is_gpu(device: torch.device) -> bool:
    """Whether `device` is a GPU, or stands for one."""
    return bool(_PRETENDED) or device.type == "cuda"


def chunk_values(device: torch.device) -> int:
    """Values of a hidden state to work on at a time."""
    if is_gpu(device):
        return CHUNK["gpu"]
    return CHUNK["thread" if torch.get_num_threads() == 1 else "cpu"]


def keepable_bytes(device: torch.device) -> float:
    """What a layer may keep of its hidden states for the backward pass; without limit on a CPU."""
    if not is_gpu(device):
        return float("inf")
    return KEPT * (_PRETENDED[-1] if _PRETENDED else torch.cuda.get_device_properties(device).total_memory)
