"""Every ablation can be planned, and the page on papers' tables says which shows what."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest

from launch.ablations.ablation import read
from launch.cli import main
from launch.selection.plan import Selection, select
from launch.tables.published import scores, shown
from vocl.config.compose import group_choices

PAGE = Path(__file__).resolve().parents[2] / "docs" / "published.md"
ABLATIONS = group_choices("ablation")
CODE = re.compile(r"`([^`]+)`")


@functools.cache
def chosen(ablation: str) -> Selection:
    """Not to be changed: composing takes long."""
    return select([ablation])


def lines() -> list[tuple[list[str], list[str]]]:
    """Of each line of the page's table: its ablations, and what they show."""
    cells = [line.split("|")[1:-1] for line in PAGE.read_text().splitlines() if line.startswith("| ")][1:]
    return [(CODE.findall(ablations), CODE.findall(theirs)) for _, ablations, theirs, _ in cells]


def listed(name: str) -> list[str]:
    theirs = read(name).table.published
    return [theirs] if isinstance(theirs, str) else theirs or []


def test_the_page_has_every_ablation_once_and_none_that_is_not_there() -> None:
    named = [name for ablations, _ in lines() for name in ablations]
    assert sorted(named) == ABLATIONS


def test_the_page_says_what_each_table_shows() -> None:
    for ablations, theirs in lines():
        for name in ablations:
            assert listed(name) == theirs, name


def test_every_table_of_a_published_file_is_shown_by_an_ablation() -> None:
    asked = {name for ablation in ABLATIONS for name in listed(ablation)}
    text = PAGE.read_text()
    for file in group_choices("published"):
        tables = {f"{file}/{score.table}" for score in scores(file, None) if score.table}
        assert file in asked or tables <= asked, tables - asked
        assert tables or f"conf/published/{file}.yaml" in text


@pytest.mark.parametrize("ablation", [name for name in ABLATIONS if listed(name)])
def test_what_a_table_asks_for_has_a_place_in_it(ablation: str) -> None:
    """Each name gives the table at least one number."""
    declared = read(ablation)
    configs = {spec.column: spec.config for spec in chosen(ablation).specs}
    for name in listed(ablation):
        assert shown(name, declared.metrics, configs, None), name


def test_every_ablation_passes_plan(tmp_path: Path, capsys) -> None:
    for ablation in ABLATIONS:
        assert main(["plan", ablation, f"runtime.root={tmp_path}"]) == 0, capsys.readouterr().err
        out = capsys.readouterr().out
        runs = len({spec.id for spec in chosen(ablation).specs})
        assert f"{runs} runs: {runs} new" in out, ablation
