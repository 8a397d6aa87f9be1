"""What tests of readers share."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture(params=["decord", "av"])
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the two that readers decode with."""
    if request.param == "av":
        monkeypatch.setitem(sys.modules, "decord", None)  # import decord -> ImportError
    else:
        pytest.importorskip("decord")
    return request.param
