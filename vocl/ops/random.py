"""Randomness as a pure function of a key and a tag, so that no result depends on call order."""

from __future__ import annotations

import hashlib

import torch
from einops import rearrange
from torch import Tensor


def seed_of(*parts: int | str) -> int:
    """A 63-bit seed from any mixture of integers and words."""
    text = "\x1f".join(str(part) for part in parts).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def generator(*parts: int | str) -> torch.Generator:
    """A CPU generator seeded by `seed_of(*parts)`."""
    return torch.Generator().manual_seed(seed_of(*parts))


def normal(key: Tensor, tag: str, shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise (b, *shape): row i depends on `key[i]` (int64, shape b) and `tag` alone.

    Drawn on the CPU, so that the values are the same on every device.
    """
    rows = [torch.randn(shape, generator=generator(int(k), tag)) for k in key.tolist()]
    return torch.stack(rows).to(key.device)


def uniform(key: Tensor, tag: str, shape: tuple[int, ...]) -> Tensor:
    """Uniform noise from [0, 1), (b, *shape), keyed and drawn as `normal`."""
    rows = [torch.rand(shape, generator=generator(int(k), tag)) for k in key.tolist()]
    return torch.stack(rows).to(key.device)


def subsets(key: Tensor, tag: str, rows: int, size: int, of: int) -> Tensor:
    """For each key, `rows` random subsets of `size` of the numbers below `of`: b rows size, ascending."""
    order = uniform(key.cpu(), tag, (rows, of)).argsort(dim=-1)
    return order[..., :size].sort(dim=-1).values.to(key.device)


def dropout(x: Tensor, key: Tensor | None, tag: str, rate: float) -> Tensor:
    """Dropout of `x`, whose rows belong to the keys in equal, consecutive shares; key None: `x` itself.

    Unlike torch's, it depends on no global generator, so not on the number of processes.
    """
    if key is None or rate == 0:
        return x
    assert len(x) % len(key) == 0
    noise = uniform(key, tag, (len(x) // len(key), *x.shape[1:])).to(x.device)
    return x * rearrange(noise >= rate, "b m ... -> (b m) ...") / (1 - rate)
