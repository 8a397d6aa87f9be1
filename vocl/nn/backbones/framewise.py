"""A frozen network, run on a constant number of frames at a time.

Kernels of matrix products are chosen by shape, and their sums are ordered by kernel: in a batch of
another size a frame may get other last bits. In chunks of one shape it does not, so the features of a
frame are the same in every batch, in training and at test, and as they were when they were stored.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vocl.nn.execution.room import is_gpu

# On a CPU one frame is work enough for all cores. A GPU would be done with fewer before its host tells it
# what comes next; more take memory, and a video at test is filled up to a multiple.
CHUNK = {"cpu": 1, "gpu": 32}


def chunk_frames(device: torch.device) -> int:
    """Frames at a time."""
    return CHUNK["gpu" if is_gpu(device) else "cpu"]


def framewise(
    network: Callable[[Tensor], tuple[Tensor | None, ...]], frames: Tensor
) -> tuple[Tensor | None, ...]:
    """`network` of `frames` m c h w, a chunk at a time; the last is filled up with its own last frame.

    `network` gives tensors with a row per frame, or None. On a GPU it is not proven that a frame's
    place in the chunk does not matter: `vocl.data.features.encoder` tries it before it relies on that.
    """
    size = chunk_frames(frames.device)
    parts = []
    for chunk in frames.split(size):
        filled = torch.cat([chunk, chunk[-1:].expand(size - len(chunk), -1, -1, -1)])
        rows = network(filled.contiguous())
        parts.append([None if x is None else x[: len(chunk)] for x in rows])
    return tuple(None if column[0] is None else torch.cat(column) for column in zip(*parts, strict=True))
