"""The walks of the README and of docs/extending.md, run from the pages themselves, outside the repository
and inside it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import at_step, final, run_folder, same, send, tiny
from walks import FILE, PAGES, project, walk

from vocl import run as in_process

ROOT = Path(__file__).resolve().parent.parent
SMALL = [
    "train.steps=3",
    "train.batch=2",
    "eval.discovery.max_videos=1",
    "runtime.threads=1",
    "runtime.root=results",
]
INSIDE = {
    "mask_entropy": "vocl/losses",
    "prototypes": "vocl/models",
    "squares": "vocl/data/sources",
    "plateau": "vocl/events",
    "area_probe": "vocl/evaluate",
    "corloc": "vocl/evaluate",
    "sure_attention": "vocl/nn",
    "sureness": "vocl/losses",
}
WALKS = [word for word in INSIDE if word not in ("sure_attention", "sureness")] + ["experiment=sure"]


def run(folder: Path, arguments: list[str]) -> None:
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-m", "vocl.train", *arguments, *SMALL]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(list(folder.glob("results/runs/*/result.json"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("word", WALKS)
def test_outside_the_repository(word: str, tmp_path: Path) -> None:
    project(tmp_path)
    run(tmp_path, walk(word))


@pytest.fixture
def importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The project of the pages can be imported, and is forgotten: other tests have one of its name."""
    monkeypatch.syspath_prepend(str(project(tmp_path)))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
        del sys.modules[name]


@pytest.mark.usefixtures("importable")
def test_the_curriculum_moves_on_and_resumes_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = [f"project={tmp_path / 'my_project'}", "curriculum=plateau"]
    settings += ["curriculum.patience=3", "curriculum.gain=0.9"]
    whole, torn = (tiny(tmp_path / name, *settings) for name in ("whole", "torn"))
    assert in_process.run(whole) == 0
    log = (run_folder(whole) / "metrics.jsonl").read_text().splitlines()
    stages = [json.loads(line)["stage"] for line in log]
    assert stages[0] == 0 and stages[-1] == 1 and sorted(stages) == stages
    for step in (1, stages.index(1) - 1, stages.index(1)):
        with monkeypatch.context() as patch:
            at_step(patch, step, send(signal.SIGTERM))
            assert in_process.run(torn) == 75
    assert in_process.run(torn) == 0
    same(final(torn), final(whole))


@pytest.mark.slow
@pytest.mark.parametrize("word", WALKS)
def test_inside_the_repository(word: str, tmp_path: Path) -> None:
    for package in ("vocl", "conf", "launch"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in FILE.findall(PAGES):
        place = f"{INSIDE[Path(name).stem]}/{Path(name).name}" if name.startswith("mine/") else name
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(re.sub(r"mine\.(\w+)", lambda m: f"{INSIDE[m[1]].replace('/', '.')}.{m[1]}", text))
    run(tmp_path, [argument for argument in walk(word) if not argument.startswith("project=")])
