"""Ablation files are read as Hydra reads its own; what cannot be meant is one line with its place."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from launch.cli import main
from launch.selection.plan import select
from vocl.errors import UserError
from vocl.train import main as train

END = "\nseeds: [0]\nmetrics: [video_mbo]\n"


def specs(declare: Callable[..., str], text: str) -> dict[str, dict]:
    """Configs by row."""
    return {spec.row: spec.config for spec in select(["own", declare(text, "own")]).specs}


def refused(declare: Callable[..., str], text: str, says: str) -> str:
    with pytest.raises(UserError, match=says) as caught:
        select(["own", declare(text, "own")])
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000
    return str(caught.value)


@pytest.mark.parametrize("text", ["1e-4", "1.0e-4", "0.0001", "1E-4", "+1e-4"])
def test_numbers_are_those_of_hydra(declare, text) -> None:
    found = specs(declare, f"grid: {{optim.lr: [{text}, 4e-4]}}" + END)
    assert [config.optim["lr"] for config in found.values()] == [1e-4, 4e-4]
    assert list(found) == ["lr=0.0001", "lr=0.0004"]


def test_merge_keys_work_and_the_nearer_value_wins(declare) -> None:
    text = """
base: &b {optim.lr: 0.001, train.steps: 9}
rows:
  a: {<<: *b, train.steps: 5}
  b: {<<: [{train.batch: 3}, *b]}
"""
    found = specs(declare, text + END)
    assert [c.train.steps for c in found.values()] == [5, 9]
    assert [c.train.batch for c in found.values()][1] == 3


@pytest.mark.parametrize(
    "text", ["rows: {a: {}, a: {}}", "rows: {a: {}, 'a': {}}", "rows: {a: {b: 1, b: 2}}"]
)
def test_keys_that_stand_twice_are_refused(declare, text) -> None:
    refused(declare, text + END, r"own\.yaml:1:\d+: not valid YAML: '[ab]' stands twice")


NAMES = [
    "on",
    "off",
    "yes",
    "No",
    "1:30",
    "010",
    "0x10",
    "1_000",
    "1e-3",
    "null",
    "~",
    "true",
    ".inf",
    "1.50",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_yaml_would_turn_into_others_are_to_be_quoted(declare, name) -> None:
    refused(declare, f"rows:\n  {name}: {{}}{END}", rf"own\.yaml:2:3: YAML reads .*; quote it: '{name}'")
    assert list(specs(declare, f"rows:\n  '{name}': {{}}{END}")) == [name]


@pytest.mark.parametrize("name", ["7", "0.1", "10", "2024-01-01", "a b", "-3"])
def test_names_that_yaml_leaves_alone_need_no_quotes(declare, name) -> None:
    assert list(specs(declare, f"rows: {{{name}: {{}}}}{END}")) == [name]


PLACES = {
    "table: {baseline: off}": "off",
    "table: {groups: [[010]]}": "010",
    "exclude: [{row: on}]": "on",
    "exclude: [{column: [1:30]}]": "1:30",
    "list: [{label: 010, train.steps: 3}]": "010",
    "title: on": "on",
}


@pytest.mark.parametrize(("text", "word"), PLACES.items(), ids=list(PLACES))
def test_names_that_are_values_are_to_be_quoted_too(declare, text, word) -> None:
    refused(declare, f"rows: {{a: {{}}}}\n{text}{END}", rf"own\.yaml:2:\d+: .*quote it: '{word}'")


def test_null_is_still_no_baseline_and_values_may_be_anything(declare) -> None:
    text = "rows: {a: {train.clip: null}}\ntable: {baseline: null, protocol: null, published: null}"
    assert specs(declare, text + END)["a"].train.clip is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("seeds: 0\nmetrics: [video_mbo]", r"seeds=0: expected a list of whole numbers, as in \[0, 1\]"),
        ("seeds: 3\nmetrics: [video_mbo]", "seeds=3: expected a list of whole numbers"),
        ("seeds: [0]\nmetrics: video_mbo", "metrics=video_mbo: expected a list of names"),
        ("seeds: false\nmetrics: [video_mbo]", "seeds=False: expected a list of whole numbers"),
        ("seeds: []\nmetrics: [video_mbo]", "seeds: missing or empty"),
        ("metrics: [video_mbo]", "seeds: missing or empty"),
    ],
)
def test_seeds_and_metrics_are_lists(declare, text, says) -> None:
    refused(declare, f"rows: {{a: {{}}}}\n{text}\n", says)


def bomb(levels: int) -> str:
    lines = ["a0: &a0 [l, l, l, l, l, l, l, l, l, l]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(lines)


MEAN = {
    "brackets": ("title: " + "[" * 3000, "nested too deeply"),
    "closed brackets": ("title: " + "[" * 3000 + "]" * 3000, "nested too deeply"),
    "braces": ("title: " + "{a: " * 3000, "nested too deeply"),
    "a hundred thousand": ("[" * 100_000, "nested too deeply"),
    "bomb": (bomb(9), "stands for over 10000 values"),
    "small bomb as a value": (f"base:\n  x:\n    {bomb(5)}".replace("\na", "\n    a"), "over 10000 values"),
    "bomb of merges": ("a: &a {b: 1}\n" + "c: &c [" + "*a, " * 6000 + "]\nd: [*c]", "over 10000 values"),
    "circle": ("title: &a [*a]", "inside of itself"),
    "circle of mappings": ("rows: &a {b: *a}", "inside of itself"),
    "foreign type": ("title: !!python/object/apply:os.system [true]", "could not determine a constructor"),
    "key that is a list": ("? [a, b]\n: c", "a key is a word"),
    "two documents": ("a: 1\n---\nb: 2", "not valid YAML"),
    "list": ("[a, b]", "expected a mapping, not"),
    "long list": (f"[{'a, ' * 9000}]", "expected a mapping, not"),
    "control character": ("title: \x07", "not valid YAML"),
    "unknown alias": ("title: *nobody", "undefined alias"),
    "endless number": (f"seeds: [{'9' * 5000}]", "not valid YAML"),
}


@pytest.mark.parametrize(("text", "says"), MEAN.values(), ids=list(MEAN))
def test_files_that_nobody_means_are_one_line_at_once(declare, text, says) -> None:
    assert "own.yaml" in refused(declare, text, says)


ENCODINGS = {
    "latin-1": "title: é".encode("latin-1"),
    "utf-16": "title: x".encode("utf-16"),
    "binary": bytes(range(256)) * 4,
    "cut letter": "title: é".encode()[:-1],
}


@pytest.mark.parametrize("content", ENCODINGS.values(), ids=list(ENCODINGS))
def test_files_in_another_encoding_are_one_line(declare, tmp_path, capsys, content) -> None:
    project = declare("", "own")
    (tmp_path / "project" / "conf" / "ablation" / "own.yaml").write_bytes(content)
    assert main(["plan", "own", project]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "own.yaml: not UTF-8 text (byte " in error


def test_mark_of_utf8_and_line_ends_of_windows_are_harmless(declare, tmp_path) -> None:
    project = declare("", "own")
    text = "title: β\r\nrows: {é: {}}\r\nseeds: [0]\r\nmetrics: [video_mbo]\r\n"
    (tmp_path / "project" / "conf" / "ablation" / "own.yaml").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert [spec.row for spec in select(["own", project]).specs] == ["é"]


def test_a_terminal_of_ascii_shows_what_it_can(declare, tmp_path) -> None:
    project = declare("rows: {'β=0.5 → é': {}}" + END, "own")
    place = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-c", "import sys; from launch.cli import main; sys.exit(main())"]
    done = subprocess.run(
        [*command, "plan", "own", project, f"runtime.root={tmp_path}"],
        env={**os.environ, **place},
        cwd=Path(__file__).parents[2],
        capture_output=True,
    )
    assert (done.returncode, done.stderr) == (0, b"") and b"1 new" in done.stdout


@pytest.mark.parametrize("verb", ["plan", "train"])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"seed: " + b"[" * 3000, "nested too deeply"),
        (bomb(9).encode(), "stands for over 10000 values"),
        (b"seed: \xff", "not UTF-8 text"),
    ],
    ids=["brackets", "bomb", "binary"],
)
def test_experiments_of_a_project_are_told_likewise(declare, tmp_path, capsys, verb, content, says) -> None:
    project = declare("", "own")
    path = tmp_path / "project" / "conf" / "experiment" / "mean.yaml"
    path.parent.mkdir()
    path.write_bytes(content)
    arguments = ["experiment=mean", project, f"runtime.root={tmp_path}"]
    assert (train(arguments) if verb == "train" else main(["plan", *arguments])) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "mean.yaml" in error and says in error


@pytest.mark.parametrize("verb", ["plan", "train"])
def test_deep_overrides_are_one_line(capsys, verb) -> None:
    deep = f"loss={'[' * 3000}{']' * 3000}"
    assert (train([deep]) if verb == "train" else main(["plan", deep])) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "loss=[[[" in error and "nested too deeply" in error
    assert len(error) < 200
