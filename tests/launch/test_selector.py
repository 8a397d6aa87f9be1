from __future__ import annotations

import json
from pathlib import Path

import pytest

from launch.cli import main
from launch.selection import plan, selector
from vocl.errors import UserError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for seed, name in enumerate(("aaaa000001", "aaaa000002", "bbbb000001")):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(f"seed: {seed}\n")
    rows = [
        {"row": "r", "column": "all", "seed": seed, "id": f"cccc00000{seed}", "after": None}
        for seed in (0, 1)
    ]
    place = tmp_path / "by-name" / "mine"
    place.mkdir(parents=True)
    (place / "selection.json").write_text(json.dumps({"arguments": ["mine", "x=1"], "runs": rows}))
    return tmp_path


@pytest.fixture
def no_composition(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("composed")

    monkeypatch.setattr(plan, "select", refuse)


def test_ids_and_their_beginnings(root: Path, no_composition: None) -> None:
    target = selector.resolve(["bbbb", "aaaa000002", f"runtime.root={root}"])
    assert [(entry.id, entry.seed) for entry in target.entries] == [("bbbb000001", 2), ("aaaa000002", 1)]
    assert target.root.path == root and target.name is None
    with pytest.raises(UserError, match="several runs begin so: aaaa000001, aaaa000002"):
        selector.resolve(["aaaa", f"runtime.root={root}"])


@pytest.mark.parametrize("word", ["mine", "ablation=mine"])
def test_a_submitted_name_is_not_composed(root: Path, no_composition: None, word: str) -> None:
    target = selector.resolve([word, f"runtime.root={root}"])
    assert target.runs == ["cccc000000", "cccc000001"]
    assert (target.name, target.arguments) == ("mine", ("mine", "x=1"))
    part = selector.resolve([word, "seed=1", f"runtime.root={root}"])
    assert part.runs == ["cccc000001"] and part.arguments == ("mine", "x=1", "seed=1")


@pytest.mark.parametrize("seed", ["0,1", "range(0,2)"])
def test_seeds_as_submit_takes_them(root: Path, no_composition: None, seed: str) -> None:
    assert len(selector.resolve(["mine", f"seed={seed}", f"runtime.root={root}"]).runs) == 2
    assert selector.resolve(["mine", "seed=0", "seed=1", f"runtime.root={root}"]).runs == ["cccc000001"]


@pytest.mark.parametrize("word", ["++seed=1", "++runtime.root=/nowhere", "+train.steps=3"])
def test_what_forces_a_value_is_composed_and_never_passed_over(
    root: Path, no_composition: None, word: str
) -> None:
    with pytest.raises(AssertionError, match="composed"):
        selector.resolve(["mine", word, f"runtime.root={root}"])


@pytest.mark.parametrize("seed", ["abc", "0,abc", "", "[0,1]"])
@pytest.mark.parametrize("verb", ["cancel", "tend", "retry", "status"])
def test_seeds_that_are_none_select_nothing_in_silence(root: Path, capsys, verb: str, seed: str) -> None:
    assert main([verb, "mine", f"seed={seed}", f"runtime.root={root}"]) == 2
    found = capsys.readouterr()
    assert found.out == "" and found.err.count("\n") == 1 and "seed=" in found.err


def test_more_seeds_of_a_table_are_those_of_its_last_submit(root: Path) -> None:
    arguments = ["demo", "train.steps=7"]
    rows = [{"row": "r", "column": "all", "seed": 0, "id": "cccc000000", "after": None}]
    (root / "by-name" / "demo").mkdir()
    path = root / "by-name" / "demo" / "selection.json"
    path.write_text(json.dumps({"arguments": [*arguments, "seed=0"], "runs": rows}))
    target = selector.resolve(["demo", "seed=5", f"runtime.root={root}"])
    expected = plan.select([*arguments, "seed=5"]).specs
    assert target.runs == [spec.id for spec in expected] and target.name == "demo"


@pytest.mark.parametrize("verb", ["cancel", "tend", "retry"])
def test_a_results_folder_alone_selects_nothing(root: Path, capsys, verb: str) -> None:
    assert main([verb, f"runtime.root={root}"]) == 2
    assert capsys.readouterr().err.startswith("no selector: give run ids, an ablation's name")


def test_boards_take_what_the_others_take_and_all_without(root: Path) -> None:
    words = ["mine", "seed=1", f"runtime.root={root}"]
    assert selector.resolve_or_all(words) == selector.resolve(words)
    every = selector.resolve_or_all([f"runtime.root={root}"])
    assert {title: len(entries) for title, entries in every.groups.items()} == {
        "ablation mine": 2,
        selector.OUTSIDE: 3,
    }


def test_anything_else_is_what_plan_selects(root: Path) -> None:
    arguments = ["seed=3,4", f"runtime.root={root}"]
    target = selector.resolve(arguments)
    assert target.runs == [spec.id for spec in plan.select(arguments).specs]
    assert target.selection is not None


def test_a_damaged_selection_is_one_line(root: Path, capsys) -> None:
    (root / "by-name" / "mine" / "selection.json").write_text("{")
    with pytest.raises(UserError, match=r"selection.json: damaged; vocl submit mine writes it again"):
        selector.resolve(["mine", f"runtime.root={root}"])
    assert main(["plan"]) == 2
