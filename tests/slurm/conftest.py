"""Real SLURM clusters for the tests of this folder; they skip, with the reason, where none can be started."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from cluster import TestCluster
from cluster_daemons import why_not


@pytest.fixture(scope="session")
def cluster(start_cluster: Callable[..., TestCluster]) -> TestCluster:
    """The cluster with default options, shared by all tests: leave no job and no stopped daemon behind."""
    return start_cluster()


@pytest.fixture(scope="session")
def start_cluster() -> Iterator[Callable[..., TestCluster]]:
    """For other options: ``start_cluster(accounting=False)``; one cluster per set, stopped at the end."""
    if reason := why_not():
        pytest.skip(reason)
    started: dict[str, TestCluster] = {}

    def start(**options) -> TestCluster:
        key = repr(sorted(options.items()))
        if key not in started:
            started[key] = TestCluster(**options).start()
        return started[key]

    try:
        yield start
    finally:
        for each in started.values():
            each.stop()
