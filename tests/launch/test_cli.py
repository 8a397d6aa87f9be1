from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from launch.cli import VERBS, main

REPOSITORY = Path(__file__).resolve().parents[2]
EVERY_MODULE = """
import importlib, pkgutil, launch
for module in pkgutil.walk_packages(launch.__path__, "launch."):
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
    ("arguments", "told"),
    [
        (["status", "x" * 300], "File name too long"),
        (["status", f"runtime.root={'x' * 300}"], "File name too long"),
        (["pull", ".", "runtime.root=/proc/x"], "runtime.root=/proc/x: cannot write there"),
        (["pull", "~nosuchuser/x", "runtime.root={root}"], "~nosuchuser/x: there is no such user"),
        (["retry", "runtime.root=~nosuchuser/x", "A"], "~nosuchuser/x: there is no such user"),
        (["plan", "demo", "runtime.root='~nosuchuser/x'"], "~nosuchuser/x: there is no such user"),
        (["plan", "demo", "project=~nosuchuser/x"], "~nosuchuser/x: there is no such user"),
        (["logs", "~nosuchuser", "runtime.root={root}"], "~nosuchuser: there is no such user"),
        (["eval", "~nosuchuser", "runtime.root={root}"], "~nosuchuser: there is no such user"),
        (["predict", "video=~nosuchuser/x.mp4", "checkpoint=a"], "~nosuchuser/x.mp4: there is no such user"),
        (["import", "slotcontrast", "~nosuchuser/x", "{root}/out"], "~nosuchuser/x: there is no such user"),
    ],
)
def test_a_path_that_cannot_be_is_one_line(arguments: list[str], told: str, tmp_path: Path, capsys) -> None:
    assert main([a.format(root=tmp_path) for a in arguments]) == 2
    out, error = capsys.readouterr()
    assert out == "" and error.count("\n") == 1 and told in error


@pytest.mark.parametrize(
    "code",
    [
        "import vocl, vocl.config.check, launch",
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
