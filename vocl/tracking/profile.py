"""Where a step's time goes: a trace and a table of torch.profiler, in the run's folder."""

from __future__ import annotations

import logging
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from vocl.files import atomic_path, write_text

logger = logging.getLogger(__name__)
FOLDER = "profile"
ROWS = 40  # of the table, those that take longest themselves


class Profiler:
    """Profiles `steps` steps of an attempt, once `first` are done, and writes `<folder>/profile/`.

    With `folder` None (another rank, a replay) or no steps it does nothing. Enter it around the loop.
    """

    def __init__(self, folder: Path | None, first: int, steps: int) -> None:
        self.folder, self.first, self.taken, self.last = folder, first, 0, 0
        self.torch_profiler: profile | None = None
        if folder is None or not steps:
            return
        on_gpu = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
        self.torch_profiler = profile(
            activities=[ProfilerActivity.CPU, *on_gpu],
            schedule=schedule(wait=first - 1, warmup=1, active=steps, repeat=1),
            on_trace_ready=self._write,
            record_shapes=True,
        )

    def __enter__(self) -> Self:
        if self.torch_profiler is not None:
            self.torch_profiler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.torch_profiler is not None:
            self.torch_profiler.stop()
            if self.taken <= self.first:
                logger.warning("no profile: runtime.profile_from is more than the steps of this attempt")

    def step(self, after: int) -> None:
        """A step is over: `after` are done."""
        self.taken, self.last = self.taken + 1, after
        if self.torch_profiler is not None:
            self.torch_profiler.step()

    def _write(self, found: profile) -> None:
        assert self.folder is not None
        if self.taken <= self.first:  # the loop ended as it was to begin
            return
        place = self.folder / FOLDER
        with atomic_path(place / "trace.json.gz") as temporary:
            found.export_chrome_trace(str(temporary))
        device = "cuda" if torch.cuda.is_available() else "cpu"
        table = found.key_averages().table(sort_by=f"self_{device}_time_total", row_limit=ROWS)
        write_text(place / "table.txt", table)
        logger.info("profile up to step %d: %s, and table.txt", self.last, place / "trace.json.gz")
