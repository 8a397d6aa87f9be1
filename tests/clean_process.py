"""Work in a process that has loaded nothing yet."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any


def in_clean_process(work: Callable[..., None], *arguments: Any) -> None:
    """Call a function of a module elsewhere: the libraries of decord, once loaded, spoil PyAV's encoders."""
    process = multiprocessing.get_context("spawn").Process(target=work, args=arguments)
    process.start()
    process.join(300)
    assert process.exitcode == 0, process.exitcode
