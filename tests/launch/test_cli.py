from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from launch.cli import VERBS, main

REPOSITORY = Path(__file__).resolve().parents[2]
EVERY_MODULE = """
import importlib, pkgutil, launch
for module in pkgutil.iter_modules(launch.__path__, "launch."):
    importlib.import_module(module.name)
"""
HEAVY = {"torch", "wandb", "timm", "torchmetrics"}


def test_help_has_a_line_per_verb(capsys) -> None:
    for arguments in ([], ["--help"], ["-h"]):
        assert main(arguments) == 0
        lines = capsys.readouterr().out.splitlines()
        for verb in ("plan", "submit", "table", "eval", "predict", "import", "fetch", "replay"):
            assert sum(line.strip().startswith(f"{verb} ") for line in lines) == 1
    assert main(["plan", "--help"]) == 0
    assert "vocl plan:" in capsys.readouterr().out


def test_an_unknown_verb(capsys) -> None:
    assert main(["plam"]) == 2
    assert capsys.readouterr().err == f"vocl plam: no such verb, choose from {', '.join(VERBS)}\n"


@pytest.mark.parametrize(
    "code",
    [
        "import vocl, vocl.config, launch",
        EVERY_MODULE,
        "from launch.cli import main; assert main(['plan', 'demo', 'runtime.root={root}']) == 0",
        "from launch.cli import main; assert main(['table', 'demo', 'runtime.root={root}']) == 0",
    ],
)
def test_nothing_heavy_is_imported(code: str, tmp_path: Path) -> None:
    told = f"\nimport sys; print('heavy:', sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code.format(root=tmp_path) + told],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "heavy: []"


def test_the_module_is_the_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "launch.cli", "plan", "no_such"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
