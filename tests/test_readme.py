"""The README's walks, run from the page itself, outside the repository and inside it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
FILE = re.compile(r"`my_project/([^`]+)`:\n\n```\w+\n(.*?)```", re.DOTALL)
COMMAND = re.compile(r"^\$ python -m vocl\.train (project=my_project .*)$", re.MULTILINE)
SMALL = [
    "train.steps=3",
    "train.batch=2",
    "eval.discovery.max_videos=1",
    "runtime.threads=1",
    "runtime.root=results",
]
INSIDE = {"mask_entropy": "vocl/losses", "prototypes": "vocl/models", "squares": "vocl/data/sources"}


def run(folder: Path, arguments: list[str]) -> None:
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-m", "vocl.train", *arguments, *SMALL]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(list(folder.glob("results/runs/*/result.json"))) == 1


def walk(word: str) -> list[str]:
    """The arguments of the README's command that mentions `word`."""
    (found,) = [c for c in COMMAND.findall(README) if word in c]
    return found.split()


@pytest.mark.slow
@pytest.mark.parametrize("word", INSIDE)
def test_outside_the_repository(word: str, tmp_path: Path) -> None:
    files = FILE.findall(README)
    assert len(files) == 7, [name for name, _ in files]
    for name, text in files:
        path = tmp_path / "my_project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "my_project/mine/__init__.py").touch()
    run(tmp_path, walk(word))


@pytest.mark.slow
@pytest.mark.parametrize("word", INSIDE)
def test_inside_the_repository(word: str, tmp_path: Path) -> None:
    for package in ("vocl", "conf", "launch"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in FILE.findall(README):
        place = f"{INSIDE[Path(name).stem]}/{Path(name).name}" if name.startswith("mine/") else name
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(re.sub(r"mine\.(\w+)", lambda m: f"{INSIDE[m[1]].replace('/', '.')}.{m[1]}", text))
    run(tmp_path, [argument for argument in walk(word) if not argument.startswith("project=")])
