"""Randomness as a pure function of a key and a tag, so that no result depends on call order.

What a model draws for a clip comes from a counter-based generator (`vocl.ops.philox`), on the device
of the keys and without waiting for it. Of an element the key is that of its clip, the counter its
place in the row and the tag. So row i of a draw depends on `key[i]`, the tag and nothing else, a
longer draw begins with a shorter one's values, and every device draws the same ones.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor

from vocl.ops.philox import WORD, philox

CHUNK = 1 << 20  # blocks of four words that a device draws at once: its memory is bounded
# On a CPU so few that they stay in the cache, and that torch takes one thread for each of the many small
# operations: threads that meet after each would wait for one another wherever cores are shared.
CHUNK_ON_CPU = 1 << 13

TERMS = 12  # of the series, whose errors then lie far below float32's
ATANH = [1 / (2 * i + 1) for i in range(TERMS)]
COS = [(-1) ** i / math.factorial(2 * i) for i in range(TERMS)]
SIN = [(-1) ** i / math.factorial(2 * i + 1) for i in range(TERMS)]

Values = Callable[[Tensor, Tensor], Tensor]


def seed_of(*parts: int | str) -> int:
    """A 63-bit seed from any mixture of integers and words."""
    text = "\x1f".join(str(part) for part in parts).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def generator(*parts: int | str) -> torch.Generator:
    """A CPU generator seeded by `seed_of(*parts)`, for what is drawn on the host."""
    return torch.Generator().manual_seed(seed_of(*parts))


def normal(key: Tensor, tag: str, shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise (b, *shape): row i depends on `key[i]` (int64, shape b) and `tag` alone.

    The same bits on every device that has float64: see `_normals`.
    """
    return _drawn(key, tag, shape, _normals, torch.float32)


def uniform(key: Tensor, tag: str, shape: tuple[int, ...]) -> Tensor:
    """Uniform noise from the multiples of 2^-24 in [0, 1), (b, *shape), keyed as `normal`."""
    return _drawn(key, tag, shape, _uniforms, torch.float32)


def subkeys(key: Tensor, tag: str, number: int) -> Tensor:
    """`number` keys of parts (frames, say) of each clip, b number: each as good as a clip's own."""
    return _drawn(key, tag, (number,), _bits, torch.int64).bitwise_and_(2**63 - 1)


def subsets(key: Tensor, tag: str, rows: int, size: int, of: int) -> Tensor:
    """For each key, `rows` random subsets of `size` of the numbers below `of`: b rows size, ascending."""
    order = uniform(key, tag, (rows, of)).argsort(dim=-1, stable=True)  # ties: alike on all devices
    return order[..., :size].sort(dim=-1).values


def dropout(x: Tensor, key: Tensor | None, tag: str, rate: float) -> Tensor:
    """Dropout of `x`, whose rows belong to the keys in equal, consecutive shares; key None: `x` itself.

    Unlike torch's, it depends on no global generator, so not on the number of processes. The rate is
    rounded to a multiple of 2^-16: two elements share a word, which halves the time.
    """
    if key is None or rate == 0:
        return x
    assert len(x) % len(key) == 0
    dropped = min(round(rate * 2**16), 2**16 - 1)
    bits = _drawn(key, tag, (len(x) // len(key), *x.shape[1:]), _bits, torch.int16)
    return x * rearrange(bits >= dropped - 2**15, "b m ... -> (b m) ...") / (1 - dropped / 2**16)


# ------------------------------------------------------------------------------------------ parts


def _drawn(key: Tensor, tag: str, shape: tuple[int, ...], values: Values, dtype: torch.dtype) -> Tensor:
    """(b, *shape) of the 16 bytes of `values` that a block of four words gives each, seen as `dtype`."""
    size, chunk = math.prod(shape), CHUNK_ON_CPU if key.device.type == "cpu" else CHUNK
    blocks = torch.arange(-(-size * dtype.itemsize // 16), device=key.device)
    found = torch.empty(len(key), len(blocks), 2, dtype=torch.int64, device=key.device)
    at_once = max(1, chunk // max(1, len(blocks)))
    for keys, rows in zip(key.split(at_once), found.split(at_once), strict=True):
        for some, out in zip(blocks.split(chunk), rows.split(chunk, dim=1), strict=True):
            out.copy_(values(*_words(keys, tag, some)).view(torch.int64))
    return found.flatten(1).view(dtype)[:, :size].reshape(len(key), *shape)


def _words(key: Tensor, tag: str, blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Words 0 and 2, and 1 and 3, of `blocks` c (below 2^32) for `key` r: each 2 r c.

    The counter is the block, 0, and the tag's hash in two words.
    """
    low, high = (seed_of(tag) >> shift & WORD for shift in (0, 32))
    even = torch.stack([blocks, torch.full_like(blocks, low)]).unsqueeze(1)
    odd = torch.stack([torch.zeros_like(blocks), torch.full_like(blocks, high)]).unsqueeze(1)
    return philox(even, odd, torch.stack([key & WORD, key >> 32 & WORD]).unsqueeze(-1))


def _bits(even: Tensor, odd: Tensor) -> Tensor:
    """The words themselves, in pairs: int64 r c 2."""
    return torch.stack([*(odd << 32).bitwise_or_(even)], dim=-1)


def _uniforms(even: Tensor, odd: Tensor) -> Tensor:
    upper = (_bits(even, odd).view(torch.int32) >> 8).bitwise_and_((1 << 24) - 1)
    return upper.to(torch.float32).mul_(2**-24)


def _normals(even: Tensor, odd: Tensor) -> Tensor:
    """Box and Muller's transform of words 0 and 1, and of 2 and 3.

    In float64 and of operations that IEEE 754 rounds correctly (+, -, *, /, square root), each an
    operation of torch of its own: unlike libraries' logarithms and cosines they give the same bits
    everywhere. Values reach 6.7 standard deviations, and are exact to float32's last bit, or to 2e-8.
    """
    radius = (_log((even + 1).double() * 2**-32) * -2).clamp_(min=0).sqrt_()
    angle = (odd.double() * 2**-32 - 0.5).mul_(2 * math.pi)
    square = angle * angle
    cos, sin = _series(COS, square), _series(SIN, square).mul_(angle)
    pairs = torch.stack([(cos * radius).float(), (sin * radius).float()], dim=-1)
    return rearrange(pairs, "half r c two -> r c (half two)")


def _log(x: Tensor) -> Tensor:
    """The natural logarithm of float64 `x`, positive and normal, for the same bits on every device.

    x is 2^e m with 1 <= m < 2, and log(m / sqrt 2) = 2 atanh((m - sqrt 2) / (m + sqrt 2)).
    """
    bits = x.view(torch.int64)
    exponent = ((bits >> 52) - 1023).double() + 0.5
    mantissa = (bits & ((1 << 52) - 1) | 1023 << 52).view(torch.float64)
    ratio = (mantissa - math.sqrt(2)) / (mantissa + math.sqrt(2))
    return exponent.mul_(math.log(2)).add_(_series(ATANH, ratio * ratio).mul_(ratio).mul_(2))


def _series(coefficients: list[float], x: Tensor) -> Tensor:
    """The polynomial with these coefficients, ascending, by Horner's rule."""
    total = torch.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total.mul_(x).add_(coefficient)
    return total
