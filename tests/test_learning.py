"""The default learns: what `python -m vocl.train` alone promises, on held-out videos."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_bare_command_learns_objects(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vocl.train", f"runtime.root={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("runs/*/result.json")
    result = json.loads(path.read_text())
    scores = result["metrics"]
    assert result["evals"]["discovery"]["num_videos"] == 64
    # a grid of 2 x 2 labels scores 0.49, 0.31 and 0.09 (benchmarks/learning.py)
    assert scores["video_fg_ari"] >= 0.55
    assert scores["video_mbo"] >= 0.45
    assert scores["video_ari"] >= 0.25
