"""Video files as tests change them."""

from __future__ import annotations

from pathlib import Path


def with_matrix(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Give an MP4 another display matrix."""
    a, b, c, d = matrix
    content = bytearray(path.read_bytes())
    at = content.find(b"tkhd") + 44
    fixed = (a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    content[at : at + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in fixed)
    path.write_bytes(content)
    return path
