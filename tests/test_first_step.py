"""A run begins with what its steps need: libraries that take seconds to import wait until they are used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from running import TINY

REPOSITORY = Path(__file__).resolve().parents[1]
TRAIN_A_STEP = """
import os, sys
from vocl.train import main
from vocl.trainer import Trainer

launch = Trainer.launch
def then_tell(*arguments):
    launched = launch(*arguments)
    os.write(1, "\\n".join(sys.modules).encode())
    os._exit(0)
Trainer.launch = then_tell
main(sys.argv[1:])
"""


def imported(*words: str) -> set[str]:
    """All modules that are there after the first step of `python -m vocl.train` with `words`."""
    command = [sys.executable, "-c", TRAIN_A_STEP, *words]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = set(done.stdout.split())
    assert {"torch", "vocl.trainer", "vocl.evaluate.discovery"} <= found
    return found


@pytest.mark.parametrize("words", [TINY, ("debug=tiny",)], ids=["filters", "debug=tiny"])
def test_the_first_step_of_a_run_imports_none_of_the_slow_libraries(words, tmp_path: Path) -> None:
    found = imported(*words, f"runtime.root={tmp_path}")
    late = {"torchmetrics", "timm", "torchvision", "scipy", "pandas", "pyarrow", "wandb", "matplotlib"}
    assert not found & (late | {"torch._dynamo"})
