"""The scripts behind the claims of speed run; what they print is nobody's to assert on a shared machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted((ROOT / "benchmarks").glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_finds_all_that_it_imports(script: Path) -> None:
    code = f"import sys; sys.path[:0] = [{str(script.parent)!r}, {str(ROOT)!r}]; import {script.stem}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plan", "status"])
def test_a_script_that_writes_records_of_its_own_prints_its_ratio(name: str) -> None:
    command = [sys.executable, f"benchmarks/{name}.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("ratio=")


def a_row(device):
    yield {"device": device.type}


def refuses(device):
    yield {"device": device.type}
    raise torch.OutOfMemoryError("of the GPU")


def dies(device):
    yield {"device": device.type}
    os.kill(os.getpid(), signal.SIGSEGV)


def hangs(device):
    yield {"device": device.type}
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)  # of a part"])
    time.sleep(600)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "most_s", "last"),
    [
        (a_row, 300, "cpu"),
        (refuses, 300, "OutOfMemoryError: of the GPU"),
        (dies, 300, "its process ended with exit code -11"),
        (hangs, 20, "the rest is left out, after 20 s"),
    ],
)
def test_what_ends_a_part_of_the_report_of_a_gpu_is_told(monkeypatch, part, most_s, last) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from gpu_parts import rows_of

    began = time.monotonic()
    rows = list(rows_of(part, torch.device("cpu"), most_s))
    assert rows[0] == {"device": "cpu"}
    assert list(rows[-1].values()) == [last]
    assert time.monotonic() - began < 200
