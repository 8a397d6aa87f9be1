"""Tensors that were computed before."""

from __future__ import annotations

from collections.abc import Hashable

from torch import Tensor


class TensorCache:
    """Tensors by key on the host, up to `limit_bytes` of them; what comes after is not kept.

    What is there stays: of a set that is passed through again and again and does not fit, this finds
    a share as large as the cache's, where throwing out the least recently used would find nothing.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes, self.used_bytes = limit_bytes, 0
        self._kept: dict[Hashable, Tensor] = {}

    def get(self, key: Hashable) -> Tensor | None:
        """The tensor of `key`, on the host; None if it was not kept."""
        return self._kept.get(key)

    def keep(self, key: Hashable, tensor: Tensor) -> None:
        """Remember a copy of `tensor`, if there is room and nothing of that key."""
        size = tensor.numel() * tensor.element_size()
        if key not in self._kept and self.used_bytes + size <= self.limit_bytes:
            self._kept[key] = tensor.detach().to("cpu", copy=True).contiguous()
            self.used_bytes += size

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()
        self.used_bytes = 0
