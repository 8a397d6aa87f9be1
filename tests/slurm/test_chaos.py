"""Twelve of the runs that `make chaos` does a hundred of."""

from __future__ import annotations

import pytest
from chaos import OPTIONS, chaos

pytestmark = pytest.mark.slow


def test_disturbed_runs_end_done_or_failed_and_as_if_undisturbed(start_cluster):
    line = chaos(start_cluster(**OPTIONS), count=12, seed=1, seconds=3600)
    print(line)
    assert line.startswith("runs=12 ")
