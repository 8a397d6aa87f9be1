"""Numbers of a device that the host reads later, without keeping it waiting now."""

from __future__ import annotations

import torch
from torch import Tensor


class Readback:
    """A copy of `numbers`, a vector, that is on its way to the host.

    From a GPU it goes to pinned memory behind the work that is queued already; `read` waits for that
    work alone, not for what was queued since. On a CPU it is there at once.
    """

    def __init__(self, numbers: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        numbers = numbers.detach()
        if numbers.device.type == "cuda":
            self._host = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
            self._host.copy_(numbers, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record(torch.cuda.current_stream(numbers.device))
        else:
            self._host = numbers.clone()

    def read(self) -> list[float]:
        """The numbers, as they were when this was made."""
        if self._event is not None:
            self._event.synchronize()
            self._event = None
        return self._host.tolist()
