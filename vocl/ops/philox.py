"""The counter-based generator Philox4x32-10 in integer operations of torch."""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDS = 10
WORD = 0xFFFFFFFF
MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
STEPS = 0x9E3779B9, 0xBB67AE85  # of the key, from round to round


def philox(even: Tensor, odd: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    """Four random words for a counter of four and a key of two (Salmon et al., SC 2011).

    A word is an int64 below 2^32. `even` 2 ... are words 0 and 2 of the counters, `odd` 2 ... words
    1 and 3, `key` 2 ... those of the keys; they broadcast, and the result comes in the same halves.
    Integers alone, and nothing is read by the host: any device gives the same words, in about six
    operations a round.
    """
    index = torch.arange(ROUNDS, device=key.device).view(-1, *[1] * (key.ndim - 1))
    keys = torch.stack([part + index * step for part, step in zip(key, STEPS, strict=True)], dim=1) & WORD
    even, odd, _ = (words.clone() for words in torch.broadcast_tensors(even, odd, keys[0]))
    product = torch.empty_like(odd)
    for own in keys:
        # crosswise: word 0 goes into words 2 and 3, word 2 into 0 and 1
        torch.mul(even[0], MULTIPLIERS[0], out=product[1])
        torch.mul(even[1], MULTIPLIERS[1], out=product[0])
        torch.bitwise_right_shift(product, 32, out=even)
        even.bitwise_xor_(odd).bitwise_xor_(own).bitwise_and_(WORD)
        odd, product = product, odd  # its upper bits are left as they are: `even` alone is multiplied
    return even, odd.bitwise_and_(WORD)
