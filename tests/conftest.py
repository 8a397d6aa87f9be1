"""Shared by all tests."""

from __future__ import annotations

import os
import signal

# Before torch is loaded: tests that share a machine must not wait for each other's threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell that starts the tests in its background, or nohup, has them and all that they start ignore these.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
