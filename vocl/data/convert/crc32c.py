"""CRC-32C (Castagnoli), the checksum of a TFRecord, fast enough for gigabytes.

A message is cut into rows that are summed side by side; two sums become that of both rows, one after the
other, because a CRC without its first and last inversion is linear.
"""

from __future__ import annotations

import functools

import numpy as np

_POLYNOMIAL = 0x82F63B78
_ROW_BITS = 10  # a row has so many bytes at most, as a power of two
_ALL = 0xFFFFFFFF
_MASK_DELTA = 0xA282EAD8


def masked(data: bytes | memoryview) -> int:
    """The sum as it stands in a TFRecord: turned, and moved by a constant."""
    found = crc32c(data)
    return ((found >> 15 | found << 17 & _ALL) + _MASK_DELTA) & _ALL


def crc32c(data: bytes | memoryview) -> int:
    """The CRC-32C of `data`."""
    number = len(data)
    bits = min(_ROW_BITS, 1 + number.bit_length() // 2)
    rows = -(-number >> bits)
    padded = np.zeros(rows << bits, np.uint8)  # zeros before a message do not change its sum
    padded[len(padded) - number :] = np.frombuffer(data, np.uint8)
    sums = _sums(padded.view("<u2").reshape(rows, -1)) if rows else np.zeros(1, np.uint32)
    while len(sums) > 1:
        if len(sums) % 2:
            sums = np.concatenate([np.zeros(1, np.uint32), sums])
        sums = _apply(_zeros(bits), sums[::2]) ^ sums[1::2]
        bits += 1
    first = np.array([_ALL], np.uint32)
    for bit in range(number.bit_length()):
        if number >> bit & 1:
            first = _apply(_zeros(bit), first)
    return int(first[0] ^ sums[0] ^ np.uint32(_ALL))


def _sums(rows: np.ndarray) -> np.ndarray:
    """Of each row of 16-bit words, side by side."""
    table, out = _table(), np.zeros(len(rows), np.uint32)
    for words in np.ascontiguousarray(rows.T):
        out = table[(out ^ words) & np.uint32(0xFFFF)] ^ out >> np.uint32(16)
    return out


@functools.cache
def _table() -> np.ndarray:
    """What a word of 16 bits makes of a sum of 0."""
    return _after_bits(np.arange(2**16, dtype=np.uint32), 16)


@functools.cache
def _zeros(bits: int) -> np.ndarray:
    """What 2**bits bytes of zero make of each bit of a sum."""
    if bits:
        half = _zeros(bits - 1)
        return _apply(half, half)
    return _after_bits(np.uint32(1) << np.arange(32, dtype=np.uint32), 8)


def _after_bits(sums: np.ndarray, number: int) -> np.ndarray:
    """Sums after so many bits of zero."""
    for _ in range(number):
        sums = sums >> np.uint32(1) ^ (sums & np.uint32(1)) * np.uint32(_POLYNOMIAL)
    return sums


def _apply(matrix: np.ndarray, sums: np.ndarray) -> np.ndarray:
    out = np.zeros_like(sums)
    for bit, column in enumerate(matrix):
        out ^= (sums >> np.uint32(bit) & np.uint32(1)) * column
    return out
