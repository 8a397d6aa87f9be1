"""Any text goes through Hydra's grammar and back."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from vocl.config.compose import compose, project_of
from vocl.config.grammar import joined, literal, setting, text_of
from vocl.errors import UserError

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


REFUSED = {  # what the grammar refuses: what was meant
    "dataset.name=my file (1).mp4": "my file (1).mp4",
    "+dataset.tag=a,b (c": "a,b (c",
    "++dataset.name=x (1)": "x (1)",
    "dataset.name={a": "{a",
    "dataset.name=it's": "it's",
    'dataset.name=say "(': 'say "(',
    "+dataset.tags=[a(b, c d]": ["a(b", "c d"],
    "+dataset.tags=['a b',c(]": ["a b", "c("],
}


@pytest.mark.parametrize(("override", "meant"), REFUSED.items(), ids=list(REFUSED))
def test_what_is_refused_is_told_with_the_form_that_is_taken(override: str, meant: str | list[str]) -> None:
    with pytest.raises(UserError) as caught:
        compose([override])
    (better,) = shlex.split(str(caught.value).rpartition("; write ")[2])
    name = better.partition("=")[0].rpartition(".")[2]
    assert compose([better])["dataset"][name] == meant


def test_a_list_in_spaces_is_told_with_commas() -> None:
    with pytest.raises(UserError) as caught:
        compose(["loss=[feature_mse slot_contrast]"])
    (better,) = shlex.split(str(caught.value).rpartition("; write ")[2])
    assert list(compose([better])["loss"]) == ["feature_mse", "slot_contrast"]


TORN = {
    "loss=[feature_mse, slot_contrast] seed=1": "loss=[feature_mse,slot_contrast]",
    "demo loss=[feature_mse slot_contrast]": "loss=[feature_mse,slot_contrast]",
    "loss=[feature_mse,slot_contrast] seed=1": "",
    "loss=[a seed=1": "",
    "demo seed=1": "",
}


@pytest.mark.parametrize("line", TORN)
def test_words_that_a_shell_took_apart(line: str) -> None:
    assert joined(line.split()) == TORN[line]
