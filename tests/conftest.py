"""Shared by all tests."""

from __future__ import annotations

import os

# Before torch is loaded: tests that share a machine must not wait for each other's threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
