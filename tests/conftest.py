"""Shared by all tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from alarm import ends_soon

SLURM = "tests/slurm/"

# Before torch is loaded: tests that share a machine must not wait for each other's threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# What somebody has set for their own commands.
os.environ["VOCL_DEFAULTS"] = ""

# A shell that starts the tests in its background, or nohup, has them and all that they start ignore these.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """The files of a folder that starts SLURM stay on one worker, any other file is a worker's to itself."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        """Two SLURMs that train at once starve each other of this machine's cores."""

        def _split_scope(self, nodeid: str) -> str:
            return SLURM if nodeid.startswith(SLURM) else super()._split_scope(nodeid)

    config.option.loadscopereorder = False  # in the order of the collection, see below
    return Scheduling(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes longest begins first on a worker, so that the others do the rest meanwhile."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: not item.nodeid.startswith(SLURM))


@pytest.fixture
def no_hanging(request: pytest.FixtureRequest) -> Iterator[None]:
    """The test fails when it waits for ever."""
    with ends_soon(request.node.name, 120):
        yield


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Threads that wait for each other make small frames slow on a busy machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
