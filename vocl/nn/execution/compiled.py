"""Regions of a step of which torch.compile makes one program, where a run asks for it (`runtime.compile`).

A region is a function that does the same for the same shapes, meets no host and draws no noise. It is
compiled for each shape that it meets, when it first meets it, up to `SHAPES`; what comes after runs as it is
written. Sums are rounded in another order.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from typing import Literal, ParamSpec, TypeVar, cast

import torch

from vocl.errors import UserError

Mode = Literal["default", "reduce-overhead", "max-autotune"]  # as of torch.compile
SHAPES = 64  # stages, tiles and last chunks each have their own
P = ParamSpec("P")
R = TypeVar("R")

_MODES: list[Mode | None] = [None]  # of the process, for the threads of a backward pass on a GPU too


@contextmanager
def compiling(mode: Mode | None) -> Iterator[None]:
    """Within it regions run as programs that torch.compile makes in `mode`; None: as they are written.

    To be entered once a step: what regions gave in an earlier one is gone where `mode` takes CUDA graphs.
    """
    if mode not in (None, "default") and torch.cuda.is_available():
        # Else the first call of a region after another would take the memory of what that one gave.
        torch.compiler.cudagraph_mark_step_begin()
    _MODES.append(mode)
    try:
        yield
    finally:
        _MODES.pop()


def is_compiling() -> bool:
    """Whether regions run compiled now."""
    return _MODES[-1] is not None


def region(function: Callable[P, R]) -> Callable[P, R]:
    """Let `function` be a region."""

    @wraps(function)
    def either(*args: P.args, **kwargs: P.kwargs) -> R:
        mode = _MODES[-1]
        run = function if mode is None else cast(Callable[P, R], _compiled(function, mode))
        return run(*args, **kwargs)

    return either


@cache
def _compiled(function: Callable[P, R], mode: Mode) -> Callable[P, R]:
    torch._dynamo.config.recompile_limit = max(SHAPES, torch._dynamo.config.recompile_limit)
    return torch.compile(function, dynamic=False, mode=mode)


def refuse_without_compiler(mode: Mode | None) -> None:
    """Raise `UserError` where `mode` asks for programs that this machine cannot make."""
    compiler = os.environ.get("CXX", "g++")
    if mode is not None and not shutil.which(compiler.split(" ")[0]):
        raise UserError(
            f"runtime.compile={mode}: torch.compile needs a C++ compiler, and there is no {compiler} here "
            "(CXX names another); choose null"
        )
