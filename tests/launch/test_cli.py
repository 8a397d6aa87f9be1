from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

from launch.cli import VERBS, load, main
from vocl.command_line.verb import Words

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


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_lists_what_it_takes(verb: str, capsys) -> None:
    command = load(verb).command
    assert main([verb, "--help"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("Usage: ")
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert all(flag in told for flag in parameter.opts), parameter.name
            assert parameter.help and parameter.help.split()[0] in told
        elif isinstance(parameter, Words):
            assert parameter.description.split()[0] in told
    assert command.help and command.help.split()[0] in told
    assert main([verb, "-h"]) == 0 and capsys.readouterr().out == told


def test_defaults_and_types_of_options_are_told(capsys) -> None:
    assert main(["logs", "--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "-n, --lines INTEGER" in told and "default: 30" in told


def test_torch_is_not_imported_for_help() -> None:
    code = "import sys; from launch.cli import main; main(['{}', '--help']); print('torch' in sys.modules)"
    for verb in ("eval", "predict", "show", "train", "replay"):
        command = [sys.executable, "-c", code.format(verb)]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
        assert done.stdout.splitlines()[-1] == "False", done.stderr


def test_the_list_of_verbs_is_printed_without_click() -> None:
    code = "import sys; from launch.cli import main; main([]); print({'click', 'hydra'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "set()", done.stderr


MISTAKES = {
    "plam": ["vocl plam: no such verb, choose from train, plan,", "did you mean plan?"],
    "status --wach": ["vocl status: ", "--wach", "--watch", "see vocl status --help"],
    "retry demo --exclude-nod x": ["vocl retry: ", "--exclude-node"],
    "retry demo --exclude-node": ["vocl retry: ", "--exclude-node"],
    "logs x -n many": ["vocl logs: ", "-n", "many"],
    "logs": ["usage: vocl logs RUN", "got nothing"],
    "diff a b c": ["usage: vocl diff A B", "got a b c"],
    "gc demo": ["usage: vocl gc", "got demo"],
    "plan": ["vocl plan: ", "SELECTOR", "see vocl plan --help"],
    "import slotcontrast": ["vocl import: ", "FILE", "see vocl import --help"],
    "plan demoo": ["demoo: no such choice", "did you mean demo?"],
    "plan experiment=slotcontrast/movi_d": ["experiment=slotcontrast/movi_d: no such choice", "did you mean"],
    "plan model.num_slot=3": ["model.num_slot: no such key", "did you mean model.num_slots?"],
    "plan experiement=savi/movi_c": ["experiement: no such key", "did you mean experiment?"],
    "plan demo modle.num_slots=3": ["modle.num_slots: no such key", "did you mean model?"],
    "plan dbug=tiny": ["did you mean debug?"],
    "plan backbone=dinov2_s41": ["did you mean dinov2_s14?"],
    "predict vidoe=a": ["vidoe: unknown key", "did you mean video?"],
    "plan loss=[feature_mse, slot_contrast]": ["write 'loss=[feature_mse,slot_contrast]'"],
    "submit demo eval=[discovery single_object] seed=1": ["write 'eval=[discovery,single_object]'"],
    "train --cfg hydra": ["python -m vocl.train: ", "hydra", "job"],
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_one_line_with_what_may_have_been_meant(line: str, capsys) -> None:
    assert main(line.split()) == 2
    out, error = capsys.readouterr()
    assert out == "" and error.count("\n") == 1
    assert all(part in error for part in MISTAKES[line]), error


def test_options_stand_anywhere(capsys) -> None:
    for line in ("--yes runtime.root=/nowhere", "runtime.root=/nowhere --yes"):
        assert main(["gc", *line.split()]) == 2
        assert "/nowhere: no results folder" in capsys.readouterr().err
    for words in (["-n5", "x"], ["x", "--lines=5"], ["-f", "x", "-n", "5"]):
        assert main(["logs", *words, "runtime.root=/nowhere"]) == 2
        assert "x: neither a run folder" in capsys.readouterr().err


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
