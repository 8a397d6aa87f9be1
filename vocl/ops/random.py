"""Randomness as a pure function of a key and a tag, so that no result depends on call order."""

from __future__ import annotations

import hashlib

import torch
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
