"""Any text goes through Hydra's grammar and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from vocl.config.compose import compose, project_of
from vocl.config.grammar import literal, setting, text_of

TEXTS = (
    "plain",
    "a b",
    "é/日本",
    "it's",
    'say "x"',
    "a=b,c",
    "(x)#@:;&$",
    "back\\slash",
    "end\\",
    "\\'",
    "[a]",
)


@pytest.mark.parametrize("text", TEXTS)
def test_there_and_back(text: str) -> None:
    assert text_of(literal(text)) == text
    assert compose([setting("runtime.root", text)])["runtime"]["root"] == text


@pytest.mark.parametrize("value", ["plain", "'", "", "'a", 'x"y"'])
def test_what_is_not_in_quotes_is_itself(value: str) -> None:
    assert text_of(value) == value


@pytest.mark.parametrize("name", ["é x", "a=b (1), c", "it's"])
def test_a_project_lies_anywhere(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    (folder / "mine").mkdir(parents=True)
    (folder / "mine" / "__init__.py").touch()
    (folder / "conf" / "experiment").mkdir(parents=True)
    (folder / "conf" / "experiment" / "own.yaml").write_text("# @package _global_\ntrain: {steps: 77}\n")
    words = [setting("project", folder), "experiment=own"]
    assert project_of(words) == str(folder)
    assert compose(words)["train"]["steps"] == 77
