"""Stochastic depth (Huang et al., ECCV 2016) for timm's transformer blocks, drawn from the clips' keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from einops import rearrange
from torch import Tensor

from vocl.ops.random import uniform


@contextmanager
def stochastic_depth(
    blocks: Sequence[Any], rates: Sequence[float], key: Tensor, frames: int
) -> Iterator[None]:
    """Within, each residual branch of block i is left out of a frame with the chance rates[i].

    The rows that enter the blocks are the `frames` frames of the clips with keys `key` (b), clip by
    clip. What is kept is scaled by 1 / (1 - rate), as in timm; timm draws from the global
    generator, where two processes would not equal one.
    """
    noise = rearrange(uniform(key, "depth", (len(blocks), 2, frames)), "b i two t -> i two (b t) 1 1")
    with ExitStack() as hooks:
        for block, rate, rows in zip(blocks, rates, noise, strict=True):
            for place, row in zip((block.drop_path1, block.drop_path2), rows, strict=True):
                factor = (row >= rate) / (1 - rate)
                hook = place.register_forward_hook(lambda _, __, out, factor=factor: out * factor.to(out))
                hooks.callback(hook.remove)
        yield
