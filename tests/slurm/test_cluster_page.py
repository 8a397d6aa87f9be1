"""The page about clusters: its six commands on a real SLURM, and those of them that the README repeats."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text().split("## On a SLURM cluster")[1].split("\n## ")[0]
PAGE = (ROOT / "docs" / "clusters.md").read_text()
EDIT = "partition: low\ngpus: 0\ncpus: 1\nmem_gb: null\ntime_min: 20\n"  # what this cluster needs


def commands(text: str) -> list[str]:
    """What a page has people type, without its comments."""
    return [line.partition("#")[0].strip() for line in re.findall(r"^\$ (.*)$", text, re.MULTILINE)]


def test_the_readme_repeats_the_page() -> None:
    assert commands(README) and not set(commands(README)) - set(commands(PAGE))


@pytest.mark.slow
def test_the_six_commands(cluster, tmp_path_factory: pytest.TempPathFactory) -> None:
    """In a copy of the checkout, with runs of a few steps."""
    assert len(commands(PAGE)) == 6
    checkout = tmp_path_factory.mktemp("checkout")
    for part in ("vocl", "launch", "conf", "hydra_plugins", "pyproject.toml"):
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, checkout / part)
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))  # of `vocl`
    environment = cluster.env | {"PYTHONPATH": str(checkout), "PATH": path}
    said = {}
    for command in commands(PAGE):
        small = " debug=tiny" if command.startswith(("vocl plan", "vocl submit", "vocl table")) else ""
        words = (command + small).split()
        done = subprocess.run(
            words, cwd=checkout, env=environment, capture_output=True, text=True, timeout=1800
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        said[" ".join(words[:2])] = done.stdout
        if words[0] == "cp":
            mine = checkout / "conf" / "cluster" / "mine.yaml"
            keys = {line.partition(":")[0] for line in EDIT.splitlines()}
            kept = [line for line in mine.read_text().splitlines() if line.partition(":")[0] not in keys]
            mine.write_text("\n".join(kept) + "\n" + EDIT)
    assert "6 new" in said["vocl plan"] and "1 array, 6 jobs" in said["vocl plan"]
    assert "queued job" in said["vocl submit"]
    assert "(2)" in said["vocl table"] and "missing" not in said["vocl table"]
    assert "picture of" in said["vocl table"]
