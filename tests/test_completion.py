"""What bash completes, asked as bash asks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vocl.config.compose import group_choices

FUNCTION = "_vocl_completion"
bash = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Completions of the last of the words that bash makes of a command line."""
    (tmp_path / "results" / "runs" / "0123456789").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)

    def ask(*words: str, **environment: str) -> list[str]:
        found = subprocess.run(
            [sys.executable, "-m", "vocl.commands.launching"],
            env=os.environ
            | {
                "COMP_WORDS": "\n".join(("vocl", *words)),
                "COMP_CWORD": str(len(words)),
                "_VOCL_COMPLETE": "bash_complete",
            }
            | environment,
            capture_output=True,
            text=True,
        )
        assert (found.returncode, found.stderr) == (0, "")
        return found.stdout.splitlines()

    return ask


def test_verbs_and_options(asked) -> None:
    assert {"plain,status", "plain,submit", "plain,show", "plain,sync"} <= set(asked("s"))
    assert asked("status", "--wa") == ["plain,--watch"]
    assert asked("eval", "--un") == ["plain,--untrained"]
    assert asked("train", "--c") == ["plain,--cfg", "plain,--config"]


def test_names_of_ablations_runs_and_groups(asked) -> None:
    assert asked("plan", "dem") == ["plain,demo"]
    assert asked("plan", "exp") == ["plain,experiment="]
    assert {f"plain,{name}" for name in group_choices("search")} <= set(asked("search", ""))
    assert {"plain,model=", "plain,model/merge=", "plain,model/decoder="} <= set(asked("plan", "mod"))
    assert asked("status", "0123") == ["plain,0123456789"]
    assert asked("logs", "0") == ["plain,0123456789"]
    assert asked("ls", "--", "0") == ["plain,0123456789"]


def test_choices_of_groups(asked) -> None:
    """Bash takes words apart at the equals sign, and wants what stands behind it."""
    assert "plain,slotcontrast/movi_c" in asked("plan", "experiment", "=", "slotcontrast/m")
    assert {"plain,here", "plain,local", "plain,slurm"} <= set(asked("submit", "demo", "cluster", "="))
    assert asked("train", "dataset", "=", "ytvo") == ["plain,ytvos"]
    assert asked("train", "loss", "=", "[feature_mse,slot_c") == ["plain,[feature_mse,slot_contrast"]
    assert asked("plan", "model/merge", "=", "nothing") == [""]
    assert asked("predict", "checkpoint", "=", "0") == ["plain,0123456789"]


@pytest.mark.parametrize("quote", ["'", '"', ""])
def test_a_word_that_bash_leaves_whole_stays_whole(asked, quote: str) -> None:
    """In quotes, and where a user's COMP_WORDBREAKS lacks the equals sign."""
    assert asked("plan", f"{quote}loss=[feature_mse,slot_c") == ["plain,loss=[feature_mse,slot_contrast"]
    assert asked("plan", f"{quote}experiment=slotcontrast/sy") == ["plain,experiment=slotcontrast/synthetic"]


def test_the_words_before_count(asked, tmp_path: Path) -> None:
    (tmp_path / "other" / "runs" / "fedcba9876").mkdir(parents=True)
    (tmp_path / "mine" / "conf" / "ablation").mkdir(parents=True)
    (tmp_path / "mine" / "conf" / "ablation" / "own.yaml").touch()
    assert asked("logs", "runtime.root", "=", "other", "f") == ["plain,fedcba9876"]
    assert asked("plan", "project", "=", "mine", "ow") == ["plain,own"]
    (tmp_path / "vocl.yaml").write_text("root: other\nproject: mine\n")
    told = {"VOCL_DEFAULTS": "vocl.yaml"}
    assert asked("logs", "f", **told) == ["plain,fedcba9876"]
    assert asked("plan", "ow", **told) == ["plain,own"]
    (tmp_path / "vocl.yaml").write_text("[")
    assert asked("logs", "0", **told) == ["plain,0123456789"]


@bash
def test_bash_itself(tmp_path: Path) -> None:
    command = tmp_path / "bin" / "vocl"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m vocl.commands.launching "$@"\n')
    command.chmod(0o755)
    script = (
        'eval "$(_VOCL_COMPLETE=bash_source vocl)"\n'
        f"COMP_WORDS=(vocl plan experiment = savi/syn) COMP_CWORD=4\n{FUNCTION} vocl\n"
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    found = subprocess.run(
        ["bash", "--norc", "-c", script],
        env=os.environ | {"PATH": f"{command.parent}:{os.environ['PATH']}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (found.returncode, found.stderr) == (0, "")
    assert "savi/synthetic" in found.stdout.split()
