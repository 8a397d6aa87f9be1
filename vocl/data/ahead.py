"""The next batch comes to a GPU while the one before it is worked on."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import TypeVar

import torch

from vocl.data.loaders import tensors
from vocl.interface import Clip

T = TypeVar("T")


def brought(
    made: Iterator[T], bring: Callable[[T], Clip], device: torch.device
) -> Generator[Clip, None, None]:
    """`bring` of each of `made`, which comes to `device`.

    On a GPU the next one is asked for before the one before it is handed out: its copy and what
    `bring` computes run on a stream of their own, beside the step. What is raised for it waits until
    it is asked for. Elsewhere one follows the other.
    """
    if device.type != "cuda":
        yield from map(bring, made)
        return
    here, beside = torch.cuda.current_stream(device), torch.cuda.Stream(device)

    def begun() -> Clip | Exception:
        try:
            with torch.cuda.stream(beside):
                return bring(next(made))
        except Exception as error:
            return error

    coming = begun()
    while not isinstance(coming, StopIteration):
        if isinstance(coming, Exception):
            raise coming
        here.wait_stream(beside)
        for tensor in tensors(coming):
            if tensor.device.type == "cuda":
                tensor.record_stream(here)  # else its memory would be given to the next while it is read
        clip, coming = coming, begun()
        yield clip
        del clip
