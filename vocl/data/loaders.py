"""Batches prepared ahead by processes of their own."""

from __future__ import annotations

import atexit
import functools
import gc
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from vocl.data.fitting import Unfitted
from vocl.errors import UserError
from vocl.interface import Clip, Features
from vocl.stop import end_with_parent, ignore_signals, shielded

Batch = Clip | Unfitted
LEAVE_S = 2.0  # how long a process may go on with a batch that nobody waits for any more
MOST = 16  # loader processes, unless somebody asks for more
FEW = 4  # of more, each has one batch ready, not two
LIKELY = {
    signal.SIGKILL: ": out of memory? fewer runtime.workers need less",
    signal.SIGBUS: ": /dev/shm full? fewer runtime.workers need less",
}


def affordable(device: torch.device) -> int:
    """How many loader processes this process has cores for beside itself, `MOST` at most: of its allocation,
    which ranks of one node may share. None for a training on the CPU, which uses them all itself."""
    if device.type == "cpu":
        return 0
    cores = len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    cores = min(cores, int(os.environ.get("SLURM_CPUS_PER_TASK", str(cores))))
    return max(0, min(cores - 1, MOST))


class LoaderError(RuntimeError):
    """A loader process raised something or is gone; where it raised, the traceback is a note."""


class Loaders:
    """Within its block, `workers` processes prepare `make(step)` for each of `steps`; call `take` in order.

    Signals that ask the training to stop do not reach them, and they end with the training, however
    it ends. What `make` raises in one of them is raised by `take`: a `UserError` as it is, any other
    as a `LoaderError`, as also when a process is gone. `make` is to draw nothing from global generators.
    `pinned`: batches come in memory that a GPU, which is then needed, can read by itself. Belongs to the
    main thread.
    """

    def __init__(
        self, make: Callable[[int], Batch], steps: range, workers: int, pinned: bool = False
    ) -> None:
        self.loader = torch.utils.data.DataLoader(
            _Made(make),
            batch_size=None,
            sampler=steps,
            num_workers=workers,
            prefetch_factor=2 if workers <= FEW else 1,  # batches of each; many of them fill /dev/shm
            pin_memory=pinned,
            multiprocessing_context="fork" if sys.platform.startswith("linux") else None,
            worker_init_fn=functools.partial(_begin, os.getpid()),
        )
        self.processes: list[Any] = []
        self.taking = False

    def __enter__(self) -> Loaders:
        others = multiprocessing.active_children()
        # A process that is still there at the end of this one would be waited for: it ignores SIGTERM.
        atexit.register(self._kill)
        gc.freeze()  # else one could collect what lies on a GPU and was let go here: it would die of it
        try:
            with shielded():
                self.batches: Any = iter(self.loader)  # torch shows no way to end its processes
        except BaseException:
            self.processes = [p for p in multiprocessing.active_children() if p not in others]
            self._kill()
            raise
        finally:
            gc.unfreeze()
        self.processes = [p for p in multiprocessing.active_children() if p not in others]
        # torch's handler raises wherever the training is, in the midst of a checkpoint too.
        self.handler = signal.signal(signal.SIGCHLD, self._child_ended)
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes: at once those that wait, after `LEAVE_S` seconds those that do not."""
        # Beside this thread: if a process was killed while it held a lock, torch waits for ever.
        ending = threading.Thread(target=self.batches._shutdown_workers, daemon=True)
        ending.start()
        ending.join(LEAVE_S)
        self._kill()
        ending.join(LEAVE_S)
        signal.signal(signal.SIGCHLD, self.handler)
        atexit.unregister(self._kill)

    def take(self) -> Batch:
        """The next batch."""
        self.taking = True
        try:
            self._refuse_dead()
            made = next(self.batches)
        except Exception:
            self._refuse_dead()  # torch does not say what became of it
            raise
        finally:
            self.taking = False
        if isinstance(made, Exception):
            raise made
        return made

    def _child_ended(self, number: int, frame: FrameType | None) -> None:
        if self.taking:
            self._refuse_dead()

    def _refuse_dead(self) -> None:
        for process in self.processes:
            code = process.exitcode
            if code is not None and code < 0:
                number = signal.Signals(-code)
                raise LoaderError(
                    f"loader process {process.pid} was killed by {number.name}{LIKELY.get(number, '')}"
                )
            if code is not None:
                raise LoaderError(f"loader process {process.pid} ended with exit code {code}")

    def _kill(self) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.join(LEAVE_S)  # no longer: what waits for a disk cannot be killed


class _Made(torch.utils.data.Dataset):
    """Step to batch, in a loader process; what is raised there is handed over like a batch."""

    def __init__(self, make: Callable[[int], Batch]) -> None:
        self.make = make

    def __getitem__(self, step: int) -> Batch | Exception:
        try:
            clip = self.make(step)
            for tensor in tensors(clip):
                tensor.share_memory_()  # torch would later, where an error is printed and the batch lost
            return clip
        except UserError as error:
            return error
        except Exception as error:
            told = LoaderError(f"{type(error).__name__}: {error}")
            told.add_note("".join(traceback.format_exception(error)))
            return told


def tensors(value: Any) -> Iterator[Tensor]:
    """All that a batch holds: its fields, and those in tuples, mappings, clips and features."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple):
        yield from (tensor for item in value for tensor in tensors(item))
    elif isinstance(value, Mapping):
        yield from tensors(tuple(value.values()))
    elif isinstance(value, Clip | Features | Unfitted):
        yield from tensors(vars(value))


def _begin(parent: int, worker: int) -> None:
    """What a loader process does first."""
    end_with_parent(parent, signal.SIGKILL)
    ignore_signals()
